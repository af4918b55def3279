//! The text of a phase, taken apart into statements as `psql` and `mysql` do it, each with the line where it begins.

use super::Dialect;

/// One statement, without its delimiter and without what comes before its first word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The SQL.
    pub text: String,
    /// The line of the file where it begins, from 1.
    pub line: usize,
}

impl Statement {
    /// Whether the rows that it says it changed are counted: a SELECT's are those that it gave.
    pub fn counts(&self, dialect: Dialect) -> bool {
        changes_rows(&self.summary(dialect))
    }

    /// Whether it is built beside the traffic, and may take its time over it.
    pub fn is_concurrent(&self, dialect: Dialect) -> bool {
        dialect == Dialect::Postgres && self.summary(dialect).iter().any(|word| word == "CONCURRENTLY")
    }

    /// Whether failing leaves nothing of it: not so of what is built beside the traffic, and of what may commit on its own.
    pub fn undoes_itself(&self, dialect: Dialect) -> bool {
        !self.is_concurrent(dialect)
            && !self.summary(dialect).first().is_some_and(|word| matches!(word.as_str(), "CALL" | "DO"))
    }

    /// The line of the file where the character with this number is, counted from 1 as databases do.
    pub fn line_of(&self, character: usize) -> usize {
        let before = self.text.chars().take(character.saturating_sub(1));
        self.line + before.filter(|c| *c == '\n').count()
    }

    /// Its first words in upper case, comments left out.
    fn summary(&self, dialect: Dialect) -> Vec<String> {
        let mut rest = Lexer::new(&self.text, dialect);
        let mut words = vec![String::new()];
        while words.len() < 12
            && let Some(piece) = rest.next()
        {
            let Ok(piece) = piece else { break };
            let last = words.last_mut();
            match (piece.kind, last) {
                (Kind::Plain(c), Some(last)) if c.is_alphanumeric() || c == '_' => last.extend(c.to_uppercase()),
                (_, Some(last)) if !last.is_empty() => words.push(String::new()),
                _ => {}
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }
}

/// How a script runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All of it in one transaction with its entry in the ledger: it happened, or it didn't.
    Transaction,
    /// Statement by statement, since one of them can't be part of a transaction: it can stop half-way.
    Stepwise,
    /// In one transaction again and again, until it changes no row.
    Batched,
}

/// The text of a phase, ready to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// What tells one text from another: SHA-256 in hexadecimal, as the caller computed it of [`Script::canonical`].
    pub checksum: String,
    /// Its statements in order.
    pub statements: Vec<Statement>,
    /// How it runs.
    pub mode: Mode,
    /// What it is written in.
    pub dialect: Dialect,
}

/// Why a text can't be taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl Script {
    /// The form of a text whose checksum counts: a checkout with other line ends is the same text.
    pub fn canonical(text: &str) -> String {
        text.replace("\r\n", "\n").trim_end().to_owned()
    }

    /// Takes a text apart.
    ///
    /// # Errors
    /// What can't be read, with its line.
    pub fn parse(text: &str, dialect: Dialect, batched: bool, checksum: String) -> Result<Script, Unreadable> {
        let mut statements = split(text, dialect)?;
        if statements.is_empty() {
            return Err(Unreadable { line: 1, why: "there is no statement in it".to_owned() });
        }
        unwrap_transaction(&mut statements, dialect);
        if let Some(control) = statements.iter().find(|one| controls_transaction(&one.summary(dialect))) {
            let why = "a phase has one transaction, and it is not this file's to begin or end: what was rolled back could count \
                       as done. Leave it out, or write the parts into migrations of their own";
            return Err(Unreadable { line: control.line, why: why.to_owned() });
        }
        if batched && !statements.iter().any(|one| changes_rows(&one.summary(dialect))) {
            let why =
                "a batch needs an INSERT, UPDATE, DELETE or MERGE of its own: it is repeated until that changes no row";
            return Err(Unreadable { line: statements[0].line, why: why.to_owned() });
        }
        let alone = statements.iter().find(|statement| !fits_in_transaction(statement, dialect));
        let mode = match (batched, alone) {
            (true, Some(alone)) => {
                let why = "a statement that can't be part of a transaction can't be batched".to_owned();
                return Err(Unreadable { line: alone.line, why });
            }
            (true, None) => Mode::Batched,
            (false, Some(_)) => Mode::Stepwise,
            (false, None) => Mode::Transaction,
        };
        Ok(Script { checksum, statements, mode, dialect })
    }
}

/// `BEGIN; …; COMMIT;` around the whole is what happens anyway.
fn unwrap_transaction(statements: &mut Vec<Statement>, dialect: Dialect) {
    let controls = |statement: &Statement| controls_transaction(&statement.summary(dialect));
    let count = statements.iter().filter(|statement| controls(statement)).count();
    let word = |statement: Option<&Statement>| statement.and_then(|one| one.summary(dialect).into_iter().next());
    let opens = matches!(word(statements.first()).as_deref(), Some("BEGIN" | "START"));
    let closes = matches!(word(statements.last()).as_deref(), Some("COMMIT" | "END"));
    if count == 2 && opens && closes && statements.len() > 2 {
        statements.pop();
        statements.remove(0);
    }
}

/// Whether a statement's count of rows is one of rows that it changed.
fn changes_rows(words: &[String]) -> bool {
    let first = words.first().map(String::as_str).unwrap_or_default();
    matches!(first, "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "REPLACE" | "WITH" | "COPY")
}

fn controls_transaction(words: &[String]) -> bool {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["START", "TRANSACTION", ..] | ["COMMIT" | "ROLLBACK" | "ABORT" | "SAVEPOINT" | "RELEASE", ..] => true,
        ["BEGIN" | "END"] | ["SET", "AUTOCOMMIT", ..] | ["SET", "SESSION", "AUTOCOMMIT", ..] => true,
        ["BEGIN" | "END", next, ..] => matches!(*next, "TRANSACTION" | "WORK" | "ISOLATION" | "READ"),
        _ => false,
    }
}

/// What PostgreSQL refuses inside a transaction block, and what MySQL commits on its own.
fn fits_in_transaction(statement: &Statement, dialect: Dialect) -> bool {
    let owned = statement.summary(dialect);
    let words: Vec<&str> = owned.iter().map(String::as_str).collect();
    let first = words.first().copied().unwrap_or_default();
    match dialect {
        Dialect::Postgres => match words.as_slice() {
            ["VACUUM" | "CLUSTER", ..] | ["ALTER", "SYSTEM", ..] => false,
            ["CREATE" | "DROP", "DATABASE" | "TABLESPACE", ..] => false,
            ["CREATE" | "DROP" | "REINDEX" | "ALTER" | "REFRESH", rest @ ..] => !rest.contains(&"CONCURRENTLY"),
            _ => true,
        },
        // An implicit commit ends the transaction at every other statement; a procedure may commit too.
        Dialect::Mysql => {
            matches!(first, "INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "SELECT" | "WITH" | "SET" | "DO" | "VALUES")
        }
    }
}

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A character that means itself.
    Plain(char),
    /// A comment.
    Comment,
    /// A string or a quoted name.
    Quoted,
}

struct Piece {
    kind: Kind,
    start: usize,
    end: usize,
}

/// Goes through a text without being led astray by what is in strings and comments.
struct Lexer<'t> {
    text: &'t str,
    at: usize,
    dialect: Dialect,
}

impl<'t> Lexer<'t> {
    fn new(text: &'t str, dialect: Dialect) -> Lexer<'t> {
        Lexer { text, at: 0, dialect }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// The next piece; an error is where something begins that does not end.
    fn next(&mut self) -> Option<Result<Piece, (usize, &'static str)>> {
        let start = self.at;
        let rest = self.rest();
        let first = rest.chars().next()?;
        let (kind, length) = match self.special(first, rest) {
            Ok(None) => (Kind::Plain(first), first.len_utf8()),
            Ok(Some(found)) => found,
            Err(what) => return Some(Err((start, what))),
        };
        self.at += length;
        Some(Ok(Piece { kind, start, end: self.at }))
    }

    /// A comment or something quoted that begins here, with its length in bytes.
    fn special(&self, first: char, rest: &str) -> Result<Option<(Kind, usize)>, &'static str> {
        let mysql = self.dialect == Dialect::Mysql;
        let to_end = || rest.find('\n').unwrap_or(rest.len());
        let comment = |length| Ok(Some((Kind::Comment, length)));
        if let Some(after) = rest.strip_prefix("--") {
            // MySQL takes two dashes for a comment only where white space follows.
            if !mysql || after.is_empty() || after.starts_with(char::is_whitespace) {
                return comment(to_end());
            }
        }
        if mysql && first == '#' {
            return comment(to_end());
        }
        if mysql && (rest.starts_with("/*!") || rest.starts_with("/*M!")) {
            // No comment: servers from that version on run it.
            let length = block_comment(rest, false).ok_or("this comment does not end")?;
            return Ok(Some((Kind::Quoted, length)));
        }
        if rest.starts_with("/*") {
            return comment(block_comment(rest, !mysql).ok_or("this comment does not end")?);
        }
        let quoted = match first {
            '\'' => {
                // E'…' has escapes; the letter belongs to no longer word.
                let before: Vec<char> = self.text[..self.at].chars().rev().take(2).collect();
                let escapes = matches!(before.first(), Some('e' | 'E'))
                    && !before.get(1).is_some_and(|c| c.is_alphanumeric() || *c == '_');
                quoted(rest, '\'', mysql || escapes).ok_or("this string does not end")?
            }
            '"' => quoted(rest, '"', mysql).ok_or("what this quote opens does not end")?,
            '`' if mysql => quoted(rest, '`', false).ok_or("the name in this quote does not end")?,
            '$' if !mysql => match dollar_tag(self.text, self.at) {
                None => return Ok(None),
                Some(tag) => {
                    let body = &rest[tag.len()..];
                    tag.len() * 2 + body.find(tag).ok_or("this dollar-quoted string does not end")?
                }
            },
            _ => return Ok(None),
        };
        Ok(Some((Kind::Quoted, quoted)))
    }
}

fn block_comment(text: &str, nested: bool) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, 0);
    loop {
        let rest = &text[at..];
        if rest.starts_with("/*") && (nested || depth == 0) {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest.chars().next()?.len_utf8();
        }
    }
}

/// The length of something in quotes; a doubled quote is one inside it.
fn quoted(text: &str, quote: char, escapes: bool) -> Option<usize> {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        if escapes && c == '\\' {
            characters.next();
        } else if c == quote && characters.next_if(|(_, next)| *next == quote).is_none() {
            return Some(at + quote.len_utf8());
        }
    }
    None
}

/// `$tag$` or `$$`, if one begins here; `$1` and `a$b` are none.
fn dollar_tag(text: &str, at: usize) -> Option<&str> {
    let inside_word = text[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
    let rest = &text[at..];
    let end = rest[1..].find('$')? + 1;
    let tag = &rest[1..end];
    let fits = tag.chars().all(|c| c.is_alphanumeric() || c == '_') && !tag.starts_with(|c: char| c.is_ascii_digit());
    (fits && !inside_word).then(|| &rest[..=end])
}

/// What belongs to the statement that is being read.
#[derive(Default)]
struct Open {
    /// Where its first word begins.
    start: Option<usize>,
    parentheses: usize,
    /// How deep in a body of the SQL standard's kind, whose statements end with semicolons too.
    body: usize,
    /// Whether it makes a function or procedure.
    routine: bool,
    /// The words so far, in upper case: the last may still grow.
    words: Vec<String>,
    in_word: bool,
}

impl Open {
    fn plain(&mut self, c: char) {
        if c.is_alphanumeric() || c == '_' {
            if !self.in_word {
                self.words.push(String::new());
            }
            if let Some(word) = self.words.last_mut() {
                word.extend(c.to_uppercase());
            }
            self.in_word = true;
            return;
        }
        self.end_word();
        match c {
            '(' => self.parentheses += 1,
            ')' => self.parentheses = self.parentheses.saturating_sub(1),
            _ => {}
        }
    }

    fn end_word(&mut self) {
        if !std::mem::take(&mut self.in_word) {
            return;
        }
        let count = self.words.len();
        let word = self.words.last().map(String::as_str).unwrap_or_default();
        if count <= 4 && matches!(word, "FUNCTION" | "PROCEDURE") && self.words[0] == "CREATE" {
            self.routine = true;
        }
        let before = count.checked_sub(2).map(|n| self.words[n].as_str());
        match word {
            "ATOMIC" if self.routine && before == Some("BEGIN") => self.body = 1,
            "CASE" if self.body > 0 => self.body += 1,
            "END" if self.body > 0 => self.body -= 1,
            _ => {}
        }
    }
}

/// Takes a text apart at its delimiters.
fn split(text: &str, dialect: Dialect) -> Result<Vec<Statement>, Unreadable> {
    let line_of = |at: usize| 1 + text[..at].matches('\n').count();
    let mut statements = Vec::new();
    let mut delimiter = ";".to_owned();
    let mut lexer = Lexer::new(text, dialect);
    let mut open = Open::default();
    loop {
        if open.start.is_none()
            && let Some(command) = client_command(lexer.rest(), dialect)
        {
            let line = line_of(lexer.at);
            delimiter = command.map_err(|why| Unreadable { line, why })?;
            lexer.at += lexer.rest().find('\n').unwrap_or(lexer.rest().len());
            continue;
        }
        let ends = open.parentheses == 0 || dialect == Dialect::Mysql;
        if ends && lexer.rest().starts_with(&delimiter) {
            open.end_word();
            if open.body == 0 {
                let begun = std::mem::take(&mut open).start;
                statements.extend(begun.map(|start| statement(text, start, lexer.at)));
                lexer.at += delimiter.len();
                continue;
            }
        }
        let Some(piece) = lexer.next() else { break };
        let piece = piece.map_err(|(at, why)| Unreadable { line: line_of(at), why: why.to_owned() })?;
        match piece.kind {
            Kind::Comment => open.end_word(),
            Kind::Plain(c) if c.is_whitespace() => open.end_word(),
            Kind::Plain(c) => {
                open.start.get_or_insert(piece.start);
                open.plain(c);
            }
            Kind::Quoted => {
                open.end_word();
                open.start.get_or_insert(piece.start);
            }
        }
        lexer.at = piece.end;
    }
    statements.extend(open.start.map(|start| statement(text, start, text.len())));
    match statements.iter().find(|one| copies_from_client(one, dialect)) {
        None => Ok(statements),
        Some(one) => Err(Unreadable {
            line: one.line,
            why: "COPY … FROM STDIN takes its rows from the psql client, which is not here; use INSERT".to_owned(),
        }),
    }
}

fn statement(text: &str, start: usize, end: usize) -> Statement {
    Statement { text: text[start..end].trim_end().to_owned(), line: 1 + text[..start].matches('\n').count() }
}

/// What clients do themselves and no server knows: a new delimiter, or an error.
fn client_command(rest: &str, dialect: Dialect) -> Option<Result<String, String>> {
    match dialect {
        Dialect::Postgres if rest.starts_with('\\') => {
            let command = rest.split_whitespace().next().unwrap_or_default();
            Some(Err(format!("{command} is a command of the psql client, which is not here; write it in SQL")))
        }
        Dialect::Mysql => {
            let word = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            let line = rest.lines().next().unwrap_or_default();
            let argument = line.get(word.len()..).unwrap_or_default().trim();
            match word.to_ascii_lowercase().as_str() {
                "delimiter" if argument.is_empty() => Some(Err("DELIMITER needs one".to_owned())),
                "delimiter" => Some(Ok(argument.to_owned())),
                "source" => Some(Err("source is a command of the mysql client, which is not here".to_owned())),
                _ => None,
            }
        }
        Dialect::Postgres => None,
    }
}

fn copies_from_client(statement: &Statement, dialect: Dialect) -> bool {
    let words = statement.summary(dialect);
    dialect == Dialect::Postgres
        && words.first().is_some_and(|word| word == "COPY")
        && statement.text.to_uppercase().contains("FROM STDIN")
}
