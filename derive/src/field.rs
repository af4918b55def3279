//! One field, and what its attributes say.

use proc_macro2::{TokenStream, TokenTree};
use quote::quote;
use syn::ext::IdentExt as _;
use syn::parse::ParseStream;
use syn::{Expr, ExprLit, Ident, Lit, LitStr, Meta, Token, Type};

/// What holds where nothing is written.
pub enum Default_ {
    None,
    Always(TokenStream),
    /// By kind; none: any other.
    ByKind(Vec<(Option<Ident>, TokenStream)>),
}

pub struct Field {
    pub ident: Ident,
    pub ty: Type,
    /// As users write it.
    pub name: String,
    pub doc: String,
    pub is_option: bool,
    pub skip: bool,
    pub flatten: bool,
    pub set: bool,
    /// An object of a plain type, without documentation of its members.
    pub plain: bool,
    /// Members of the nested struct that are not arguments here.
    pub without: Vec<String>,
    pub required: bool,
    pub computed: bool,
    pub sensitive: bool,
    pub write_only: bool,
    pub default: Default_,
    /// Words about the default, where it is no constant or says too little.
    pub default_is: Option<LitStr>,
    /// Expressions of type `Rule`.
    pub rules: Vec<TokenStream>,
    /// The kinds that it is for.
    pub only: Vec<Ident>,
    /// The kinds that it is not for.
    pub not: Vec<Ident>,
    pub change: Option<Ident>,
}

/// The tokens up to the next comma.
pub fn rest(stream: ParseStream<'_>) -> syn::Result<TokenStream> {
    let mut tokens = TokenStream::new();
    while !stream.is_empty() && !stream.peek(Token![,]) {
        tokens.extend([stream.parse::<TokenTree>()?]);
    }
    Ok(tokens)
}

/// `RolledBack` as `rolled_back`; a number is a part of the word that it ends.
pub fn name_of(ident: &Ident, dash: char) -> String {
    let mut name = String::new();
    for (n, c) in ident.to_string().char_indices() {
        if c.is_ascii_uppercase() && n > 0 {
            name.push(dash);
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

impl Field {
    pub fn parse(field: &syn::Field) -> syn::Result<Field> {
        let ident = field.ident.clone().ok_or_else(|| syn::Error::new_spanned(field, "arguments have names"))?;
        let is_option = matches!(&field.ty, Type::Path(path)
            if path.path.segments.last().is_some_and(|last| last.ident == "Option"));
        let mut out = Field {
            name: ident.unraw().to_string(),
            ident,
            ty: field.ty.clone(),
            doc: String::new(),
            is_option,
            skip: false,
            flatten: false,
            set: false,
            plain: false,
            without: Vec::new(),
            required: false,
            computed: false,
            sensitive: false,
            write_only: false,
            default: Default_::None,
            default_is: None,
            rules: Vec::new(),
            only: Vec::new(),
            not: Vec::new(),
            change: None,
        };
        for attribute in &field.attrs {
            if attribute.path().is_ident("doc") {
                out.document(&attribute.meta);
            } else if attribute.path().is_ident("argument") {
                attribute.parse_nested_meta(|meta| out.option(&meta))?;
            } else if attribute.path().is_ident("serde") {
                // The name that a state is written with is the name that is read.
                attribute.parse_nested_meta(|meta| {
                    if meta.path.is_ident("rename") {
                        out.name = meta.value()?.parse::<LitStr>()?.value();
                    }
                    Ok(())
                })?;
            }
        }
        match out.contradiction() {
            Some(why) => Err(syn::Error::new(out.ident.span(), why)),
            None => Ok(out),
        }
    }

    /// Attributes of which one would be ignored.
    fn contradiction(&self) -> Option<&'static str> {
        let has_default = !matches!(self.default, Default_::None);
        if matches!(self.default, Default_::ByKind(_)) && !self.is_option {
            Some("a default by kind waits for the kind: the field must be an Option")
        } else if self.required && has_default {
            Some("what is required has no default")
        } else if !self.without.is_empty() && (self.set || self.plain) {
            Some("without is for nested structs, not for a set or a plain object")
        } else if !self.only.is_empty() && !self.not.is_empty() {
            Some("only says it all: not would add nothing")
        } else {
            None
        }
    }

    fn document(&mut self, meta: &Meta) {
        let Meta::NameValue(pair) = meta else { return };
        let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &pair.value else { return };
        let text = text.value();
        if !self.doc.is_empty() {
            self.doc.push(' ');
        }
        self.doc.push_str(text.trim());
    }

    fn option(&mut self, meta: &syn::meta::ParseNestedMeta<'_>) -> syn::Result<()> {
        let name = meta.path.require_ident()?.to_string();
        match name.as_str() {
            "skip" => self.skip = true,
            "flatten" => self.flatten = true,
            "name" => self.name = meta.value()?.parse::<LitStr>()?.value(),
            "set" => self.set = true,
            "plain" => self.plain = true,
            "without" => meta.parse_nested_meta(|one| {
                self.without.push(one.path.require_ident()?.unraw().to_string());
                Ok(())
            })?,
            "required" => self.required = true,
            "computed" => self.computed = true,
            "sensitive" => self.sensitive = true,
            "write_only" => self.write_only = true,
            "change" => self.change = Some(meta.value()?.parse()?),
            "default" => self.default = defaults(meta)?,
            "default_is" => self.default_is = Some(meta.value()?.parse()?),
            "only" => meta.parse_nested_meta(|one| {
                self.only.push(one.path.require_ident()?.clone());
                Ok(())
            })?,
            "not" => meta.parse_nested_meta(|one| {
                self.not.push(one.path.require_ident()?.clone());
                Ok(())
            })?,
            _ => self.rules.push(rule(&name, meta)?),
        }
        Ok(())
    }
}

fn defaults(meta: &syn::meta::ParseNestedMeta<'_>) -> syn::Result<Default_> {
    if meta.input.peek(Token![=]) {
        return Ok(Default_::Always(rest(meta.value()?)?));
    }
    let content;
    syn::parenthesized!(content in meta.input);
    let mut pairs = Vec::new();
    while !content.is_empty() {
        let kind = Ident::parse_any(&content)?;
        content.parse::<Token![=]>()?;
        pairs.push(((kind != "_").then_some(kind), rest(&content)?));
        if !content.is_empty() {
            content.parse::<Token![,]>()?;
        }
    }
    Ok(Default_::ByKind(pairs))
}

fn rule(name: &str, meta: &syn::meta::ParseNestedMeta<'_>) -> syn::Result<TokenStream> {
    if name == "not_empty" {
        return Ok(quote!(Rule::NotEmpty));
    }
    let value = rest(meta.value()?)?;
    Ok(match name {
        "one_of" => quote!(Rule::OneOf(&#value)),
        "range" => quote!(Rule::Whole(#value)),
        "lasting" => quote!(Rule::Lasting(#value)),
        "text" => quote!(Rule::Text(#value)),
        "number" => quote!(Rule::Number(#value)),
        "each" => quote!(Rule::Each(#value)),
        "each_whole" => quote!(Rule::EachWhole(#value)),
        "list" => quote!(Rule::List(#value)),
        _ => return Err(meta.error("unknown")),
    })
}
