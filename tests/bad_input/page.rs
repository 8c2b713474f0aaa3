use std::path::Path;

use houston_common::error::Code;

/// Each row names codes that exist and tests that exist, or says why it has none.
#[test]
fn every_row_is_shown_by_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let page = std::fs::read_to_string(root.join("docs/bad-input.md")).expect("the page");
    let mut numbers = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("| B")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [row, _, codes, shown] = cells[..] else { panic!("four cells: {line}") };
        numbers.push(row[1..].parse::<u32>().expect("a number"));
        for word in codes.split([' ', ',', ';', '(', ')']).map(|word| word.trim_matches('`')) {
            assert!(!word.starts_with("E-") || Code::from_text(word).is_some(), "{row}: there is no {word}");
        }
        let tests: Vec<&str> = shown.split('`').filter(|word| word.contains("::")).collect();
        assert!(
            !tests.is_empty() || shown.starts_with("waits: ") || shown.starts_with("none: "),
            "{row}: name a test, or say why there is none"
        );
        for test in tests {
            let (file, name) = test.split_once("::").expect("FILE::TEST");
            let text = std::fs::read_to_string(root.join(file))
                .unwrap_or_else(|error| panic!("{row}: {file}: {error}"));
            assert!(text.contains(&format!("fn {name}(")), "{row}: {file} has no test {name}");
        }
    }
    assert!(numbers.len() > 80 && numbers.is_sorted(), "the rows are in their order: {numbers:?}");
}
