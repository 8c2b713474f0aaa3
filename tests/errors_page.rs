use std::collections::BTreeMap;
use std::path::Path;

use houston_common::error::Code;

/// The page's rows: code, then exit, meaning and what to do.
fn rows() -> BTreeMap<String, Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("docs/errors.md");
    let page = std::fs::read_to_string(&path).expect("docs/errors.md");
    let mut rows = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| `E-")) {
        let cells: Vec<String> = line
            .trim_matches('|')
            .split(" | ")
            .map(|cell| cell.trim().trim_matches('`').to_owned())
            .collect();
        assert_eq!(cells.len(), 4, "{line}");
        assert_eq!(rows.insert(cells[0].clone(), cells[1..].to_vec()), None, "{} twice", cells[0]);
    }
    rows
}

#[test]
fn the_page_and_the_codes_are_one() {
    let mut rows = rows();
    for code in Code::ALL {
        let row = rows.remove(code.as_str());
        let row = row.unwrap_or_else(|| panic!("{code} has no row in docs/errors.md: {}", code.meaning()));
        assert_eq!(row[0], (code.exit() as u8).to_string(), "{code}: its exit");
        assert_eq!(row[1], code.meaning(), "{code}: its meaning");
        assert!(row[2].ends_with('.') && row[2].len() > 10, "{code}: what to do");
    }
    assert!(rows.is_empty(), "codes that do not exist: {:?}", rows.keys());
}
