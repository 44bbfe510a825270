//! The block of YAML fields at the head of a Markdown document, as far as model cards and skills need it.

/// One field and its values: one for `key: value`, several for a list.
pub type Field = (String, Vec<String>);

/// Splits a document into its front matter, without the `---` lines, and its body.
pub fn split(text: &str) -> (Option<&str>, &str) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Some(rest) = text.strip_prefix("---\n").or_else(|| text.strip_prefix("---\r\n")) else { return (None, text) };
    let mut length = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim_end() == "---" {
            let (fields, body) = rest.split_at(length);
            return (Some(fields), body.get(line.len()..).unwrap_or_default());
        }
        length += line.len();
    }
    // A rule that nobody closes is a line of the text.
    (None, text)
}

/// The top-level fields whose values are plain: `key: value`, `key: [a, b]`, or a list of plain items below the key.
/// Nested maps, such as the result tables of a model card, are left out.
pub fn fields(front_matter: &str) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    let mut plain_list = false;
    for line in front_matter.lines() {
        let line = line.trim_end();
        let content = line.trim_start();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        if let Some(item) = content.strip_prefix("- ").filter(|_| plain_list) {
            let (Some((_, values)), item) = (fields.last_mut(), item.trim()) else { continue };
            if is_map_entry(item) {
                plain_list = false;
                values.clear();
            } else {
                values.push(unquoted(item));
            }
        } else if line.len() == content.len() {
            let Some((key, value)) = content.split_once(':') else { continue };
            let value = value.trim();
            plain_list = value.is_empty();
            fields.push((key.trim().to_owned(), scalar_or_flow_list(value)));
        } else {
            // What is indented below a key belongs to a map or a text block.
            plain_list = false;
        }
    }
    fields.retain(|(_, values)| !values.is_empty());
    fields
}

/// `name: x` inside a list item begins a map; an address does not.
fn is_map_entry(item: &str) -> bool {
    !item.starts_with(['"', '\'']) && (item.ends_with(':') || item.contains(": "))
}

fn scalar_or_flow_list(value: &str) -> Vec<String> {
    if let Some(items) = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return items.split(',').map(unquoted).filter(|item| !item.is_empty()).collect();
    }
    // Block texts (`|`, `>`) and maps written in one line have no short form.
    if value.is_empty() || value.starts_with(['|', '>', '{']) { Vec::new() } else { vec![unquoted(value)] }
}

fn unquoted(value: &str) -> String {
    let value = value.trim();
    let inner = |quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(value).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_and_lists_are_kept_and_maps_are_not() {
        let card = "---\nlicense: mit\ntags:\n- vision\n- \"zero: shot\"\nlanguage: [en, 'de']\nwidget:\n- src: a.png\n  \
                    candidate_labels: x\nmodel-index:\n  - name: y\n    results: []\nbase_model:\n  - a/b\n# done\n---\nBody\n";
        let (fields_text, body) = split(card);
        assert_eq!(body, "Body\n");
        let found = fields(fields_text.unwrap());
        let expected = [
            ("license", vec!["mit"]),
            ("tags", vec!["vision", "zero: shot"]),
            ("language", vec!["en", "de"]),
            ("base_model", vec!["a/b"]),
        ];
        let expected: Vec<Field> = expected
            .into_iter()
            .map(|(key, values)| (key.to_owned(), values.into_iter().map(str::to_owned).collect()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_document_without_front_matter_is_all_body() {
        for text in ["", "# title\n", "---\nnever closed\n", "text\n---\nmore\n---\n"] {
            assert_eq!(split(text), (None, text));
        }
        assert_eq!(split("\u{feff}---\r\na: b\r\n---\r\nx"), (Some("a: b\r\n"), "x"));
        assert_eq!(split("---\n---"), (Some(""), ""));
    }
}
