//! Small changes to the XML that moto answers, as text: the rest of an answer stays as moto wrote it.

/// The text of the first element of this name.
pub(crate) fn text_of<'x>(xml: &'x str, name: &str) -> Option<&'x str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

/// The same XML with another content of the first element of this name, or unchanged if there is none.
pub(crate) fn with_content(xml: &str, name: &str, content: &str) -> String {
    let (start, end) = (format!("<{name}>"), format!("</{name}>"));
    let empty = format!("<{name}/>");
    if let Some((before, rest)) = xml.split_once(&start)
        && let Some((_, after)) = rest.split_once(&end)
    {
        return format!("{before}{start}{content}{end}{after}");
    }
    xml.replacen(&empty, &format!("{start}{content}{end}"), 1)
}

/// The members of a list, each without its own tags; whatever is in a member stays in it.
pub(crate) fn members(list: &str) -> Vec<&str> {
    let (open, close) = ("<member>", "</member>");
    let mut found = Vec::new();
    let (mut depth, mut start, mut at) = (0_usize, 0, 0);
    while let Some(next) = list[at..].find('<').map(|next| at + next) {
        at = next + 1;
        if list[next..].starts_with(open) {
            depth += 1;
            if depth == 1 {
                start = next + open.len();
            }
        } else if list[next..].starts_with(close) && depth > 0 {
            depth -= 1;
            if depth == 0 {
                found.push(&list[start..next]);
            }
        }
    }
    found
}

/// A list of these members.
pub(crate) fn list<'x>(members: impl IntoIterator<Item = &'x str>) -> String {
    members.into_iter().map(|member| format!("<member>{member}</member>")).collect()
}

/// The answer of a call in the query protocol.
pub(crate) fn answer(operation: &str, namespace: &str, result: &str) -> String {
    format!(
        "<{operation}Response xmlns=\"{namespace}\"><{operation}Result>{result}</{operation}Result>\
         <ResponseMetadata><RequestId>local-aws-{:016x}</RequestId></ResponseMetadata></{operation}Response>",
        fastrand::u64(..)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_and_replaced() {
        let xml = "<a><b>1</b><c/><b>2</b></a>";
        assert_eq!((text_of(xml, "b"), text_of(xml, "c"), text_of(xml, "d")), (Some("1"), None, None));
        assert_eq!(with_content(xml, "b", "3"), "<a><b>3</b><c/><b>2</b></a>");
        assert_eq!(with_content(xml, "c", "3"), "<a><b>1</b><c>3</c><b>2</b></a>");
        assert_eq!(with_content(xml, "d", "3"), xml);
    }

    #[test]
    fn members_keep_what_is_in_them() {
        let text = "<member><A><member>1</member><member>2</member></A></member> <member>3</member><member/>";
        let found = members(text);
        assert_eq!(found, ["<A><member>1</member><member>2</member></A>", "3"]);
        assert_eq!(list(found), text.replace(' ', "").replace("<member/>", ""));
        assert_eq!(members("</member><member>"), Vec::<&str>::new());
    }
}
