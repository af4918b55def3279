//! What a statement would do to the release that is live, told before it runs: read by a SQL parser, since a regular
//! expression can't tell `DROP` in a comment from one that drops. What the parser can't read is not judged.
//!
//! The rules on locks are from PostgreSQL's manual (Explicit Locking; the notes of ALTER TABLE and CREATE INDEX) and from
//! MySQL's on online DDL for InnoDB.

use std::ops::ControlFlow;

use sqlparser::ast::{
    AlterColumnOperation, AlterTable, AlterTableOperation, ColumnDef, ColumnOption, DataType, Expr, ObjectName,
    ObjectType, Query, SetExpr, Statement as Sql, TableConstraint, Visit as _, Visitor,
};
use sqlparser::dialect::{MySqlDialect, PostgreSqlDialect};
use sqlparser::parser::Parser;

use super::script::{Mode, Script};
use super::{Dialect, Phase};

/// What kind of danger it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Danger {
    /// The release that is live may not find or may not write what it expects.
    Breaks,
    /// Others wait while it runs.
    Locks,
}

/// Something to think about before it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concern {
    /// What kind.
    pub danger: Danger,
    /// The line of the file.
    pub line: usize,
    /// What it does.
    pub what: String,
    /// The safe form.
    pub instead: String,
}

/// Everything that is doubtful about a phase's text.
pub fn lint(script: &Script, phase: Phase) -> Vec<Concern> {
    let dialect = script.dialect;
    let mut linter = Linter { dialect, phase, mode: script.mode, line: 0, made: Vec::new(), found: Vec::new() };
    for statement in &script.statements {
        let parsed = match dialect {
            Dialect::Postgres => Parser::parse_sql(&PostgreSqlDialect {}, &statement.text),
            Dialect::Mysql => Parser::parse_sql(&MySqlDialect {}, &statement.text),
        };
        linter.line = statement.line;
        for sql in parsed.unwrap_or_default() {
            linter.statement(&sql);
        }
    }
    linter.found
}

struct Linter {
    dialect: Dialect,
    phase: Phase,
    mode: Mode,
    line: usize,
    /// Tables that this text makes: nobody else uses them yet.
    made: Vec<String>,
    found: Vec<Concern>,
}

impl Linter {
    fn breaks(&mut self, what: impl Into<String>, instead: impl Into<String>) {
        // Contract is the phase for it.
        if self.phase != Phase::Contract {
            self.push(Danger::Breaks, what.into(), instead.into());
        }
    }

    fn locks(&mut self, what: impl Into<String>, instead: impl Into<String>) {
        self.push(Danger::Locks, what.into(), instead.into());
    }

    fn push(&mut self, danger: Danger, what: String, instead: String) {
        self.found.push(Concern { danger, line: self.line, what, instead });
    }

    fn is_postgres(&self) -> bool {
        self.dialect == Dialect::Postgres
    }

    fn is_made(&self, table: &ObjectName) -> bool {
        self.made.contains(&table.to_string())
    }

    fn statement(&mut self, sql: &Sql) {
        match sql {
            Sql::CreateTable(table) => self.made.push(table.name.to_string()),
            Sql::AlterTable(alter) if !self.is_made(&alter.name) => self.alter(alter),
            Sql::CreateIndex(index)
                if self.is_postgres() && !index.concurrently && !self.is_made(&index.table_name) =>
            {
                self.locks(
                    format!("building an index without CONCURRENTLY keeps all writes to {} waiting", index.table_name),
                    "CREATE INDEX CONCURRENTLY, in a migration of its own, since that can't be part of a transaction",
                );
            }
            Sql::Drop { object_type, names, .. } => self.drop(*object_type, names),
            Sql::RenameTable(renames) => {
                for rename in renames {
                    self.renamed_table(&rename.old_name.to_string());
                }
            }
            Sql::Truncate(truncate) => {
                let names: Vec<String> = truncate.table_names.iter().map(|table| table.name.to_string()).collect();
                self.breaks(
                    format!("TRUNCATE takes all rows of {} away", names.join(", ")),
                    "leave rows that the live release reads until contract",
                );
            }
            Sql::LockTables { .. } | Sql::Lock(_) => self.locks(
                "an explicit lock keeps others waiting until the end of the phase",
                "leave it out: each statement takes the locks that it needs",
            ),
            Sql::Vacuum(vacuum) if vacuum.full => {
                self.locks("VACUUM FULL keeps everybody from the table while it copies it", "plain VACUUM");
            }
            Sql::Update(update) => self.rewrites("UPDATE", update.selection.is_some(), update.limit.is_some(), sql),
            Sql::Delete(delete) => self.rewrites("DELETE", delete.selection.is_some(), delete.limit.is_some(), sql),
            Sql::Insert(insert) => {
                let listed = insert.source.as_ref().is_none_or(|source| matches!(*source.body, SetExpr::Values(_)));
                self.rewrites("INSERT", true, listed, sql);
            }
            _ => {}
        }
    }

    fn drop(&mut self, kind: ObjectType, names: &[ObjectName]) {
        let names = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if kind == ObjectType::Index {
            // Readers and writers go on, slower; and PostgreSQL locks the table for a moment.
            return;
        }
        self.breaks(
            format!("DROP {kind} takes {names} away from the release that is live"),
            "drop it in contract, when no release that needs it can come back",
        );
    }

    /// DML: how much of a table it takes at once.
    fn rewrites(&mut self, verb: &str, filtered: bool, limited: bool, sql: &Sql) {
        let limited = limited || has_limit(sql);
        if self.mode == Mode::Batched {
            if !limited {
                self.locks(
                    format!("this {verb} has no LIMIT: the first batch is the whole table"),
                    "limit it, such as WHERE id IN (SELECT id … WHERE new IS NULL LIMIT 1000) on PostgreSQL, LIMIT 1000 \
                     at the end on MySQL",
                );
            }
        } else if !limited && !filtered {
            self.locks(
                format!("this {verb} without WHERE locks every row of the table until its transaction ends"),
                "backfill in batches: batched = true and a statement with LIMIT",
            );
        }
    }

    fn renamed_table(&mut self, table: &str) {
        self.breaks(
            format!("renaming {table} takes it away from the release that is live"),
            "make the new table, copy in backfill, drop the old one in contract; or leave a view under the old name",
        );
    }

    fn alter(&mut self, alter: &AlterTable) {
        for operation in &alter.operations {
            self.operation(operation, &alter.name.to_string());
        }
    }

    fn operation(&mut self, operation: &AlterTableOperation, table: &str) {
        match operation {
            AlterTableOperation::DropColumn { column_names, .. } => {
                let names = column_names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                self.breaks(
                    format!("dropping {table}.{names} takes it away from the release that is live"),
                    "drop it in contract, when no release that needs it can come back",
                );
            }
            AlterTableOperation::RenameColumn { old_column_name, .. } => {
                self.renamed_column(table, &old_column_name.to_string());
            }
            AlterTableOperation::RenameTable { .. } => self.renamed_table(table),
            AlterTableOperation::AddColumn { column_def, .. } => self.added(column_def, table),
            AlterTableOperation::AlterColumn { column_name, op } => {
                self.altered(&format!("{table}.{column_name}"), op);
            }
            AlterTableOperation::ChangeColumn { old_name, new_name, options, .. } => {
                if old_name != new_name {
                    self.renamed_column(table, &old_name.to_string());
                }
                self.retyped(&format!("{table}.{old_name}"), options);
            }
            AlterTableOperation::ModifyColumn { col_name, options, .. } => {
                self.retyped(&format!("{table}.{col_name}"), options);
            }
            AlterTableOperation::AddConstraint { constraint, not_valid } => {
                self.constrained(table, constraint, *not_valid);
            }
            AlterTableOperation::DropPrimaryKey { .. } => self
                .breaks(format!("{table} loses its primary key while the live release writes"), "drop it in contract"),
            _ => {}
        }
    }

    fn renamed_column(&mut self, table: &str, column: &str) {
        self.breaks(
            format!("renaming {table}.{column} takes it away from the release that is live"),
            "add the new column (nullable), copy in backfill, drop the old one in contract",
        );
    }

    fn added(&mut self, column: &ColumnDef, table: &str) {
        let name = format!("{table}.{}", column.name);
        let options = || column.options.iter().map(|option| &option.option);
        let default = options().find_map(|option| match option {
            ColumnOption::Default(value) => Some(value),
            _ => None,
        });
        let generated = options().any(|option| matches!(option, ColumnOption::Generated { .. }));
        let filled = default.is_some_and(|value| !is_null(value)) || generated || is_serial(&column.data_type);
        if options().any(|option| matches!(option, ColumnOption::NotNull)) && !filled {
            self.breaks(
                format!("{name} is NOT NULL without a default: the live release, which doesn't know it, can't insert"),
                "add it nullable, or with a default; make it NOT NULL in contract",
            );
        }
        if options().any(|option| matches!(option, ColumnOption::Unique(_) | ColumnOption::PrimaryKey(_))) {
            self.locks(
                format!("{name} is unique from the start: its index is built while the table is locked"),
                "add the column alone, then CREATE UNIQUE INDEX CONCURRENTLY",
            );
        }
        let volatile = default.is_some_and(is_volatile) || is_serial(&column.data_type);
        if self.is_postgres() && (volatile || generated) {
            self.locks(
                format!(
                    "{name} has a value for each row from the start: PostgreSQL writes the whole table anew, locked"
                ),
                "add it without, set the default in a second statement, and fill it in backfill",
            );
        }
    }

    fn altered(&mut self, column: &str, op: &AlterColumnOperation) {
        match op {
            AlterColumnOperation::SetNotNull => {
                self.breaks(
                    format!("{column} becomes NOT NULL: the live release may still write it without a value"),
                    "make it NOT NULL in contract",
                );
                if self.is_postgres() {
                    self.locks(
                        format!("SET NOT NULL reads all rows of the table while it is locked ({column})"),
                        "ADD CONSTRAINT … CHECK (… IS NOT NULL) NOT VALID, VALIDATE CONSTRAINT, and then SET NOT NULL, \
                         which finds the constraint and reads nothing",
                    );
                }
            }
            AlterColumnOperation::SetDataType { .. } => self.retyped(column, &[]),
            AlterColumnOperation::DropDefault => self.breaks(
                format!("{column} loses its default: the live release may rely on it"),
                "drop the default in contract",
            ),
            _ => {}
        }
    }

    fn retyped(&mut self, column: &str, options: &[ColumnOption]) {
        self.breaks(
            format!("{column} gets another definition: values that the live release writes may no longer fit"),
            "add a column of the new type, copy in backfill, drop the old one in contract; a type that only becomes wider \
             is safe",
        );
        if options.iter().any(|option| matches!(option, ColumnOption::NotNull)) {
            self.breaks(
                format!("{column} is NOT NULL: the live release may still write it without a value"),
                "make it NOT NULL in contract",
            );
        }
        self.locks(
            format!("a change of {column}'s type may write the whole table anew while it is locked"),
            "a new column; where the type only becomes wider (varchar to text, a longer varchar) nothing is rewritten",
        );
    }

    fn constrained(&mut self, table: &str, constraint: &TableConstraint, not_valid: bool) {
        let (kind, builds) = match constraint {
            TableConstraint::ForeignKey(_) => ("a foreign key", false),
            TableConstraint::Check(_) => ("a check", false),
            TableConstraint::Unique(_) => ("a unique constraint", true),
            TableConstraint::PrimaryKey(_) => ("a primary key", true),
            _ => return,
        };
        self.breaks(
            format!("{kind} on {table} refuses what the live release may still write"),
            "add it in contract, or make sure that the live release already keeps to it",
        );
        if !self.is_postgres() || not_valid {
            return;
        }
        if builds {
            self.locks(
                format!("the index of {kind} on {table} is built while the table is locked"),
                "CREATE UNIQUE INDEX CONCURRENTLY first, then ADD CONSTRAINT … USING INDEX",
            );
        } else {
            self.locks(
                format!("all rows of {table} are checked against {kind} while the table is locked"),
                "ADD CONSTRAINT … NOT VALID, and VALIDATE CONSTRAINT in a statement of its own",
            );
        }
    }
}

fn is_null(value: &Expr) -> bool {
    matches!(value, Expr::Value(value) if matches!(value.value, sqlparser::ast::Value::Null))
}

fn is_serial(ty: &DataType) -> bool {
    matches!(ty.to_string().to_lowercase().as_str(), "serial" | "bigserial" | "smallserial" | "serial4" | "serial8")
}

/// Whether a default differs from row to row. Functions other than these few are taken for ones that do.
fn is_volatile(value: &Expr) -> bool {
    let Expr::Function(function) = value else { return false };
    let name = function.name.to_string().to_lowercase();
    let stable = ["now", "current_timestamp", "current_date", "current_time", "localtimestamp", "localtime"];
    let stable = stable.contains(&name.as_str()) || name == "transaction_timestamp" || name == "statement_timestamp";
    !stable
}

/// Whether a query in it is limited: `WHERE id IN (SELECT … LIMIT 1000)`, or one in WITH.
fn has_limit(sql: &Sql) -> bool {
    struct Limited;
    impl Visitor for Limited {
        type Break = ();

        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            let limited = query.limit_clause.is_some() || query.fetch.is_some();
            if limited { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    sql.visit(&mut Limited).is_break()
}
