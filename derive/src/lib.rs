//! `#[derive(Arguments)]` and `#[derive(Choice)]`: a field is the one home of an argument.
//!
//! What users may write for an argument, what holds where they write nothing, and what a change of it means is said once,
//! at the field that holds it. Schema, documentation, parser, rules, defaults and the classes of changes all read that.
//!
//! ```ignore
//! #[derive(Arguments)]
//! #[arguments(kind = CheckKind, change = InPlace)]
//! pub struct HealthCheck {
//!     /// Seconds from one check of a target to the next.
//!     #[argument(range = 5..=300, default(Lambda = 35, _ = 30))]
//!     pub interval: Option<i32>,
//! }
//! ```
//!
//! The expansion names items of `crate::argument`, where their meaning is explained. Of a struct:
//!
//! - `kind = K`: which kind of thing decides some of the defaults; `K` implements `argument::Kind`.
//! - `change = Class`: the class of a change of its fields, unless a field says otherwise.
//! - `default`: implements `Default` by the defaults of the fields.
//!
//! Of a field: `name = "other"`, `required`, `computed`, `sensitive`, `write_only`, `set`, `plain`; `flatten`, `skip`,
//! `without(member, member)`; `default = json`,
//! `default(Kind = json, _ = json)`; `default_is = "words"` where that
//! is no constant or the documentation should say it otherwise; `only(Kind, Kind)` or `not(Kind, Kind)`;
//! `change = Class`; and the rules `one_of = [..]`, `range = a..=b`, `lasting = "a"..="b"`, `not_empty`, `text = f`, `number = f`,
//! `each = f`, `each_whole = a..=b`, `list = f`.

mod field;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Fields, Ident, parse_macro_input};

use field::{Default_, Field, name_of};

/// Implements `argument::Arguments` and `argument::Field` for a struct.
#[proc_macro_derive(Arguments, attributes(argument, arguments))]
pub fn arguments(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// Implements `argument::Field` for an enum without data: one word of several, in snake case, or with `#[choice(kebab)]` with
/// dashes.
#[proc_macro_derive(Choice, attributes(choice))]
pub fn choice(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand_choice(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// What is said of the struct as a whole.
struct Whole {
    kind: TokenStream,
    change: Option<Ident>,
    default: bool,
}

fn whole(input: &DeriveInput) -> syn::Result<Whole> {
    let mut whole = Whole { kind: quote!(crate::argument::Always), change: None, default: false };
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("arguments")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("kind") {
                whole.kind = field::rest(meta.value()?)?;
            } else if meta.path.is_ident("change") {
                whole.change = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident("default") {
                whole.default = true;
            } else {
                return Err(meta.error("unknown"));
            }
            Ok(())
        })?;
    }
    Ok(whole)
}

fn expand(input: &DeriveInput) -> syn::Result<TokenStream> {
    let Data::Struct(data) = &input.data else { return Err(syn::Error::new_spanned(input, "arguments are a struct")) };
    let Fields::Named(named) = &data.fields else {
        return Err(syn::Error::new_spanned(input, "arguments have names"));
    };
    let whole = whole(input)?;
    let fields = named.named.iter().map(Field::parse).collect::<syn::Result<Vec<_>>>()?;
    let rows =
        fields.iter().filter(|field| !field.skip).map(|field| row(field, &whole)).collect::<syn::Result<Vec<_>>>()?;
    let (name, kind) = (&input.ident, &whole.kind);
    let fills = fields.iter().filter_map(|field| fill(field, kind));
    let applies = fields.iter().filter_map(|field| {
        let Field { name, only, not, .. } = field;
        match (only.as_slice(), not.as_slice()) {
            ([], []) => None,
            ([], not) => Some(quote!(#name => !matches!(kind, #(<#kind>::#not)|*),)),
            (only, _) => Some(quote!(#name => matches!(kind, #(<#kind>::#only)|*),)),
        }
    });
    let reads = fields.iter().map(read);
    let default = whole.default.then(|| default(name, &fields));
    Ok(quote! {
        impl crate::argument::Arguments for #name {
            type Kind = #kind;
            fn arguments() -> &'static [crate::argument::Argument] {
                static TABLE: ::std::sync::LazyLock<Vec<crate::argument::Argument>> = ::std::sync::LazyLock::new(|| {
                    let mut table = Vec::new();
                    #(#rows)*
                    table
                });
                &TABLE
            }
            fn applies(name: &str, kind: #kind) -> bool {
                let _ = kind;
                match name { #(#applies)* _ => true }
            }
            fn fill(&mut self, kind: #kind) {
                let _ = kind;
                #(#fills)*
            }
        }
        impl crate::argument::Field for #name {
            fn holds() -> crate::argument::Holds {
                crate::argument::Holds::Object(<#name as crate::argument::Arguments>::arguments().to_vec())
            }
            fn read(value: &::serde_json::Value) -> Option<#name> {
                value.as_object()?;
                Some(#name { #(#reads),* })
            }
            fn absent() -> Option<#name> {
                <#name as crate::argument::Field>::read(&::serde_json::json!({}))
            }
        }
        #default
    })
}

/// The line of the table.
fn row(field: &Field, whole: &Whole) -> syn::Result<TokenStream> {
    let Field { name, ty, doc, rules, required, computed, sensitive, write_only, without, only, not, .. } = field;
    if field.flatten {
        return Ok(quote! {
            let without: &[&str] = &[#(#without),*];
            let members = <#ty as crate::argument::Arguments>::arguments().iter();
            table.extend(members.filter(|one| !without.contains(&one.name)).cloned());
        });
    }
    let Some(change) = field.change.as_ref().or(whole.change.as_ref()) else {
        return Err(syn::Error::new(field.ident.span(), "what does a change of it mean? change = … is missing"));
    };
    let kind = &whole.kind;
    let default = match &field.default {
        _ if field.default_is.is_some() => {
            let words = &field.default_is;
            quote!(Defaults::Words(#words))
        }
        Default_::None => quote!(Defaults::None),
        Default_::Always(json) => quote!(Defaults::Always(::serde_json::json!(#json))),
        Default_::ByKind(pairs) => {
            let pairs = pairs.iter().map(|(one, json)| {
                let words =
                    one.as_ref().map_or(quote!(None), |one| quote!(Some(crate::argument::Kind::plural(<#kind>::#one))));
                quote!((#words, ::serde_json::json!(#json)))
            });
            quote!(Defaults::ByKind(vec![#(#pairs),*]))
        }
    };
    let holds = match (field.set, field.plain) {
        (true, _) => quote!(holds().as_set()),
        (_, true) => quote!(holds().as_plain()),
        _ if !without.is_empty() => quote!(holds().without(&[#(#without),*])),
        _ => quote!(holds()),
    };
    Ok(quote! {
        table.push({
            use crate::argument::{Argument, Class, Defaults, Field as _, Rule};
            let mut rules: Vec<Rule> = <#ty>::rules();
            rules.extend(Vec::<Rule>::from([#(#rules),*]));
            let mut only = vec![#(crate::argument::Kind::family(<#kind>::#only)),*];
            only.dedup();
            let not = vec![#(crate::argument::Kind::family(<#kind>::#not)),*];
            Argument {
                name: #name,
                holds: <#ty>::#holds,
                about: #doc,
                required: #required,
                computed: #computed,
                sensitive: #sensitive,
                write_only: #write_only,
                default: #default,
                rules,
                only,
                not,
                change: Class::#change,
            }
        });
    })
}

/// Fills a field in that says nothing, if its default is one that waits for the kind.
fn fill(field: &Field, kind: &TokenStream) -> Option<TokenStream> {
    let (ident, name) = (&field.ident, &field.name);
    if !field.is_option {
        return None;
    }
    let value = match &field.default {
        Default_::Always(json) => quote!(crate::argument::Field::read(&::serde_json::json!(#json))),
        Default_::ByKind(pairs) => {
            let mut arms: Vec<TokenStream> = pairs
                .iter()
                .map(|(one, json)| {
                    let pattern = one.as_ref().map_or(quote!(_), |one| quote!(<#kind>::#one));
                    quote!(#pattern => crate::argument::Field::read(&::serde_json::json!(#json)),)
                })
                .collect();
            if pairs.iter().all(|(one, _)| one.is_some()) {
                arms.push(quote!(_ => None,));
            }
            quote!(match kind { #(#arms)* })
        }
        Default_::None => return None,
    };
    Some(quote! {
        if self.#ident.is_none() && <Self as crate::argument::Arguments>::applies(#name, kind) {
            self.#ident = #value;
        }
    })
}

fn read(field: &Field) -> TokenStream {
    let (ident, name) = (&field.ident, &field.name);
    if field.skip {
        return quote!(#ident: Default::default());
    }
    if field.flatten {
        let without = &field.without;
        return quote!(#ident: crate::argument::Field::read(&crate::argument::without(value, &[#(#without),*]))?);
    }
    // A default that may depend on the kind is filled in when the kind is known.
    let default = match &field.default {
        Default_::Always(json) if !field.is_option => quote!(Some(::serde_json::json!(#json))),
        _ => quote!(None),
    };
    quote!(#ident: crate::argument::member(value, #name, || #default)?)
}

fn default(name: &Ident, fields: &[Field]) -> TokenStream {
    let values = fields.iter().map(|field| {
        let ident = &field.ident;
        match &field.default {
            Default_::Always(json) if !field.is_option => {
                quote!(#ident: crate::argument::Field::read(&::serde_json::json!(#json)).unwrap_or_default())
            }
            _ => quote!(#ident: Default::default()),
        }
    });
    quote! {
        impl Default for #name {
            fn default() -> #name {
                #name { #(#values),* }
            }
        }
    }
}

fn expand_choice(input: &DeriveInput) -> syn::Result<TokenStream> {
    let Data::Enum(data) = &input.data else { return Err(syn::Error::new_spanned(input, "a choice is an enum")) };
    let name = &input.ident;
    let variants: Vec<&Ident> = data.variants.iter().map(|variant| &variant.ident).collect();
    let mut dash = '_';
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("choice")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("kebab") {
                return Err(meta.error("unknown"));
            }
            dash = '-';
            Ok(())
        })?;
    }
    let words: Vec<String> = variants.iter().map(|variant| name_of(variant, dash)).collect();
    Ok(quote! {
        impl #name {
            /// The words that users write, in the order of declaration.
            pub const NAMES: &[&str] = &[#(#words),*];

            /// The word that users write.
            pub fn name(self) -> &'static str {
                match self { #(#name::#variants => #words),* }
            }

            /// The value of a word.
            pub fn parse(word: &str) -> Option<#name> {
                match word { #(#words => Some(#name::#variants),)* _ => None }
            }
        }
        impl crate::argument::Field for #name {
            fn holds() -> crate::argument::Holds {
                crate::argument::Holds::String
            }
            fn rules() -> Vec<crate::argument::Rule> {
                vec![crate::argument::Rule::OneOf(#name::NAMES)]
            }
            fn read(value: &::serde_json::Value) -> Option<#name> {
                #name::parse(value.as_str()?)
            }
        }
    })
}
