//! Names and texts as line protocol writes them.

/// A name or a tag value, its special characters escaped.
///
/// # Errors
/// What line protocol cannot carry: a line break would begin a line of its own; a backslash at the end, or before a
/// character that has to be escaped, would take the meaning of what follows.
pub(super) fn escaped(text: &str, special: &[char]) -> Result<String, String> {
    if text.contains(['\n', '\r']) {
        return Err(format!("{text:?} has a line break, which line protocol keeps in string fields only"));
    }
    if text.ends_with('\\') {
        return Err(format!("{text:?} ends in a backslash, which line protocol cannot carry there"));
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if special.contains(&c) {
            if out.ends_with('\\') {
                return Err(format!(
                    "{text:?} has a backslash before {c:?}, which line protocol cannot carry"
                ));
            }
            out.push('\\');
        }
        out.push(c);
    }
    Ok(out)
}

/// A measurement's name. Besides what [`escaped`] refuses: one that would be read as a comment or an empty line's begin.
///
/// # Errors
/// As [`escaped`].
pub(super) fn measurement(name: &str) -> Result<String, String> {
    if name.starts_with(['#', ' ', '\t', '\0', ',']) {
        return Err(format!(
            "{name:?} begins with a character with which line protocol begins no measurement"
        ));
    }
    escaped(name, &[',', ' '])
}

/// A tag key, tag value or field name.
///
/// # Errors
/// As [`escaped`].
pub(super) fn key(name: &str) -> Result<String, String> {
    if name.starts_with(['\t', '\0']) {
        return Err(format!("{name:?} begins with a character with which line protocol begins no name"));
    }
    escaped(name, &[',', '=', ' '])
}

/// Appends a text in quotes.
pub(super) fn put_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}
