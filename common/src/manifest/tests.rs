use proptest::prelude::*;

use super::*;

fn file(path: &str, length: u64) -> Entry {
    let digest = FileDigest(Digest::of(path.as_bytes()));
    Entry { path: path.to_owned(), node: Node::File { mode: FileMode::Plain, length, digest } }
}

fn directory(path: &str) -> Entry {
    Entry { path: path.to_owned(), node: Node::Directory }
}

fn link(path: &str, target: &str) -> Entry {
    Entry { path: path.to_owned(), node: Node::Link { target: target.to_owned() } }
}

fn code_of(result: Result<Manifest, Refusal>) -> Option<Code> {
    result.err().map(|refusal| refusal.code)
}

const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn text(lines: &[&str]) -> Vec<u8> {
    let mut text = String::from("houston-tree 1\n");
    for line in lines {
        text.push_str(&line.replace(' ', "\t").replace("HEX", EMPTY_SHA256));
        text.push('\n');
    }
    text.into_bytes()
}

#[test]
fn a_tree_has_one_text() {
    let entries = vec![
        link("bin/current", "../lib/app"),
        file("lib/app", 3),
        directory("lib"),
        directory("bin"),
        Entry {
            path: "bin-x".to_owned(),
            node: Node::File { mode: FileMode::Executable, length: 0, digest: FileDigest(Digest::of(b"")) },
        },
    ];
    let manifest = Manifest::from_entries(entries).expect("valid");
    let bytes = manifest.to_bytes();
    let shown = String::from_utf8(bytes.clone()).expect("UTF-8");
    let app = Digest::of(b"lib/app");
    assert_eq!(
        shown,
        format!(
            "houston-tree 1\nd\tbin\nf\t0755\t0\t{EMPTY_SHA256}\tbin-x\nl\t../lib/app\tbin/current\n\
             d\tlib\nf\t0644\t3\t{app}\tlib/app\n"
        )
    );
    assert_eq!(Manifest::parse(&bytes).expect("reads back"), manifest);
    assert_eq!(manifest.digest().0, Digest::of(&bytes));
    assert_eq!(manifest.total_bytes(), 3);
    assert_eq!(manifest.files().map(|(path, ..)| path).collect::<Vec<_>>(), ["bin-x", "lib/app"]);
    assert_eq!(Manifest::parse(b"houston-tree 1\n").expect("the empty tree").entries(), []);
}

#[test]
fn what_is_not_canonical_is_refused() {
    let bad: &[(&[u8], Code)] = &[
        (b"", Code::TreeSyntax),
        (b"houston-tree 1", Code::TreeSyntax),
        (b"houston-tree 2\n", Code::TreeSyntax),
        (b"houston-tree 1\r\n", Code::TreeSyntax),
        (b"\xef\xbb\xbfhouston-tree 1\n", Code::TreeSyntax),
        (b"houston-tree 1\n\n", Code::TreeSyntax),
        (b"houston-tree 1\nd\ta", Code::TreeSyntax),
        (b"houston-tree 1\nd\ta\n\n", Code::TreeSyntax),
        (b"houston-tree 1\nd\ta\r\n", Code::TreePath),
        (b"houston-tree 1\nd\ta\xff\n", Code::TreeSyntax),
        (b"houston-tree 1\nd\ta\0\n", Code::TreePath),
        (b"houston-tree 1\nd a\n", Code::TreeSyntax),
        (b"houston-tree 1\nd\ta\textra\n", Code::TreeSyntax),
        (b"houston-tree 1\nx\ta\n", Code::TreeSyntax),
        (b"houston-tree 1\n d\ta\n", Code::TreeSyntax),
    ];
    for (bytes, code) in bad {
        assert_eq!(code_of(Manifest::parse(bytes)), Some(*code), "{:?}", String::from_utf8_lossy(bytes));
    }
    for line in [
        "f 0644 00 HEX a",
        "f 0644 01 HEX a",
        "f 0644 +1 HEX a",
        "f 0644 -1 HEX a",
        "f 0644  HEX a",
        "f 0644 1_0 HEX a",
        "f 0644 18446744073709551616 HEX a",
        "f 0644 0 abc a",
        "f 644 0 HEX a",
        "f 0600 0 HEX a",
        "f 4755 0 HEX a",
        "f 0777 0 HEX a",
        "f 0644 0 HEX",
        "f 0644 0 HEX a b",
        "f 0644 0 E3B0C44298FC1C149AFBF4C8996FB924 a",
    ] {
        assert_eq!(code_of(Manifest::parse(&text(&[line]))), Some(Code::TreeSyntax), "{line}");
    }
}

#[test]
fn order_and_duplicates() {
    assert_eq!(code_of(Manifest::parse(&text(&["d b", "d a"]))), Some(Code::TreeSyntax));
    let refusal = Manifest::parse(&text(&["d a", "d a"])).expect_err("twice");
    assert_eq!(refusal.code, Code::TreeDuplicate);
    assert!(refusal.what.contains("entry 2 \"a\" has the path of entry 1"), "{refusal}");
    assert_eq!(code_of(Manifest::parse(&text(&["d A", "d b", "f 0644 0 HEX a"]))), Some(Code::TreeSyntax));
    let refusal = Manifest::parse(&text(&["d A", "d B", "f 0644 0 HEX a"])).expect_err("case");
    assert_eq!(refusal.code, Code::TreeDuplicate);
    assert!(refusal.what.contains("entry 3 \"a\" differs from entry 1 only in case"), "{refusal}");
}

#[test]
fn paths_stay_inside_and_are_plain() {
    let long_component = "a".repeat(COMPONENT_BYTES_MAX + 1);
    for bad in [
        "/etc/cron.d/x",
        "..",
        "a/../b",
        "../a",
        ".",
        "a/.",
        "./a",
        "a//b",
        "a/",
        "",
        "a\\b",
        "a\u{1b}b",
        "a\u{202e}b",
        "a\u{7f}",
        "a\u{200b}",
        ".houston",
        ".houston-staging",
        ".houston/journal",
        &long_component,
    ] {
        let mut entries = vec![directory(bad)];
        if let Some((parent, _)) = bad.rsplit_once('/') {
            entries.push(directory(parent));
        }
        let refusal = Manifest::from_entries(entries).expect_err(bad);
        assert_eq!(refusal.code, Code::TreePath, "{refusal}");
        assert!(refusal.what.chars().all(crate::id::is_plain));
    }
    for good in ["houston.toml", ".hidden", "..a", "a..", "ä", "with space", ".housto", &long_component[1..]]
    {
        Manifest::from_entries(vec![directory(good)]).expect(good);
    }
    Manifest::from_entries(vec![directory("a"), directory("a/.houston")]).expect("reserved at the root only");
}

#[test]
fn path_length_at_its_limit() {
    let nested = |last: usize| {
        let mut entries = Vec::new();
        let mut path = String::new();
        for length in [255, 255, 255, last] {
            path =
                if path.is_empty() { "x".repeat(length) } else { format!("{path}/{}", "x".repeat(length)) };
            entries.push(directory(&path));
        }
        (path.len(), entries)
    };
    // The four components alone; then with "/y" below them.
    for (last, alone, deeper) in [(253, 1021, true), (254, 1022, true), (255, 1023, false)] {
        let (length, mut entries) = nested(last);
        assert_eq!(length, alone);
        Manifest::from_entries(entries.clone()).expect("below the limit");
        let parent = entries.last().expect("four").path.clone();
        entries.push(directory(&format!("{parent}/y")));
        assert_eq!(length + 2 <= PATH_BYTES_MAX, deeper);
        let code = if deeper { None } else { Some(Code::TreePath) };
        assert_eq!(code_of(Manifest::from_entries(entries)), code);
    }
}

#[test]
fn every_parent_is_a_directory_of_the_tree() {
    assert_eq!(code_of(Manifest::from_entries(vec![file("a/b", 0)])), Some(Code::TreePath));
    assert_eq!(code_of(Manifest::from_entries(vec![file("a", 0), file("a/b", 0)])), Some(Code::TreePath));
    let through_link = vec![directory("d"), link("a", "d"), file("a/b", 0)];
    assert_eq!(code_of(Manifest::from_entries(through_link)), Some(Code::TreePath));
}

#[test]
fn links_lead_to_entries_of_the_tree() {
    let with = |target: &str| {
        Manifest::from_entries(vec![
            directory("a"),
            directory("a/b"),
            file("a/b/f", 0),
            link("l", "a"),
            link("a/b/x", target),
            link("z1", "z2"),
            link("z2", "a/b/f"),
        ])
    };
    for good in ["f", "..", "../b", "../../a/b/f", "../..", "../../l", "../../z1"] {
        with(good).expect(good);
    }
    for bad in [
        "/etc/passwd",
        "../../..",
        "../../../a",
        "../../../../etc/passwd",
        "",
        "/",
        ".",
        "./f",
        "f/",
        "../b/../b/f",
        "f/..",
        "missing",
        "../../l/b",
        "x",
        "../../l/../a",
        "f\u{202e}",
        "..\\f",
        "...",
        "../",
    ] {
        assert_eq!(code_of(with(bad)), Some(Code::TreeLink), "{bad:?}");
    }
    let looped = vec![link("a", "b"), link("b", "a")];
    assert_eq!(code_of(Manifest::from_entries(looped)), Some(Code::TreeLink));
}

#[test]
fn chains_of_links_at_their_limit() {
    let chain = |links: usize| {
        let mut entries = vec![file("l00", 0)];
        entries.extend((1..=links).map(|i| link(&format!("l{i:02}"), &format!("l{:02}", i - 1))));
        Manifest::from_entries(entries)
    };
    chain(LINK_CHAIN_MAX - 1).expect("below");
    chain(LINK_CHAIN_MAX).expect("at the limit");
    assert_eq!(code_of(chain(LINK_CHAIN_MAX + 1)), Some(Code::TreeLink));
}

#[test]
fn following_goes_through_links() {
    let manifest = Manifest::from_entries(vec![
        directory("v1"),
        directory("v1/bin"),
        file("v1/bin/app", 1),
        link("current", "v1"),
        link("v1/up", "../current"),
        link("root", "v1/up"),
    ])
    .expect("valid");
    for path in ["v1/bin/app", "current/bin/app", "v1/up/bin/app", "root/up/up/bin/app"] {
        assert_eq!(manifest.follow(path), manifest.get("v1/bin/app"), "{path}");
    }
    for path in ["current/bin/none", "none", "", "v1/bin/app/x", "current/none/up"] {
        assert_eq!(manifest.follow(path), None, "{path}");
    }
}

#[test]
fn number_of_entries_at_its_limit() {
    let named =
        |count: usize| Manifest::from_entries((0..count).map(|i| directory(&format!("{i}"))).collect());
    let at = named(ENTRIES_MAX).expect("at the limit");
    named(ENTRIES_MAX - 1).expect("below");
    assert_eq!(code_of(named(ENTRIES_MAX + 1)), Some(Code::TreeLimit));
    let mut bytes = at.to_bytes();
    Manifest::parse(&bytes).expect("at the limit");
    bytes.extend(b"d\tz\n");
    assert_eq!(code_of(Manifest::parse(&bytes)), Some(Code::TreeLimit));
}

#[test]
fn bytes_of_a_tree_at_their_limit() {
    for (length, fits) in [(TREE_BYTES_MAX - 1, true), (TREE_BYTES_MAX, true), (TREE_BYTES_MAX + 1, false)] {
        assert_eq!(Manifest::from_entries(vec![file("a", length)]).is_ok(), fits);
        assert_eq!(Manifest::from_entries(vec![file("a", length - 1), file("b", 1)]).is_ok(), fits);
    }
    let overflowing = vec![file("a", u64::MAX), file("b", u64::MAX)];
    assert_eq!(code_of(Manifest::from_entries(overflowing)), Some(Code::TreeLimit));
}

#[test]
fn bytes_of_a_manifest_at_their_limit() {
    let mut entries = Vec::new();
    let mut size = HEADER.len() + 1;
    for i in 0.. {
        let room = MANIFEST_BYTES_MAX - size;
        let name = format!("{i:0255}");
        let line = name.len() + 3;
        if room < 2 * line {
            entries.push(directory(&name));
            entries.push(directory(&"z".repeat(room - line - 3)));
            break;
        }
        size += line;
        entries.push(directory(&name));
    }
    let at = Manifest::from_entries(entries.clone()).expect("at the limit");
    assert_eq!(at.to_bytes().len(), MANIFEST_BYTES_MAX);
    Manifest::parse(&at.to_bytes()).expect("at the limit");
    entries.last_mut().expect("some").path.push('z');
    assert_eq!(code_of(Manifest::from_entries(entries)), Some(Code::TreeLimit));
    assert_eq!(code_of(Manifest::parse(&vec![b'x'; MANIFEST_BYTES_MAX + 1])), Some(Code::TreeLimit));
}

fn some_manifest() -> impl Strategy<Value = Manifest> {
    let name = "[a-cA-C .ä-]{1,4}";
    let node = (0..4u8, any::<u32>(), any::<bool>());
    proptest::collection::vec((proptest::collection::vec(name, 1..4), node), 0..24).prop_map(|drafts| {
        let mut kept = Manifest::from_entries(Vec::new()).expect("empty");
        for (components, (kind, length, executable)) in drafts {
            let path = components.join("/");
            let mode = if executable { FileMode::Executable } else { FileMode::Plain };
            let digest = FileDigest(Digest::of(path.as_bytes()));
            let node = match kind {
                0 | 1 => Node::Directory,
                2 => Node::File { mode, length: u64::from(length), digest },
                _ => {
                    Node::Link { target: format!("{}{}", "../".repeat(components.len() - 1), components[0]) }
                }
            };
            let mut entries = kept.entries().to_vec();
            entries.push(Entry { path, node });
            if let Ok(larger) = Manifest::from_entries(entries) {
                kept = larger;
            }
        }
        kept
    })
}

proptest! {
    #[test]
    fn reading_is_the_inverse_of_writing(manifest in some_manifest()) {
        prop_assert_eq!(Manifest::parse(&manifest.to_bytes()), Ok(manifest));
    }

    #[test]
    fn no_two_texts_read_as_one_tree(manifest in some_manifest(), at in any::<prop::sample::Index>(), byte: u8, how in 0..3u8) {
        let mut text = manifest.to_bytes();
        let at = at.index(text.len());
        match how {
            0 => text[at] = byte,
            1 => text.insert(at, byte),
            _ => drop(text.remove(at)),
        }
        if let Ok(read) = Manifest::parse(&text) {
            prop_assert_eq!(read.to_bytes(), text);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, lines in "([dfl]\t(0644\t|0755\t)?([0-9]{1,3}\t)?[a-c./]{0,6}(\t[a-c./]{0,6})?\n){0,8}") {
        let _ = Manifest::parse(&bytes);
        let _ = Manifest::parse(format!("houston-tree 1\n{lines}").as_bytes());
    }

    #[test]
    fn following_any_path_ends(manifest in some_manifest(), path in "[a-cA-C/.]{0,12}") {
        let _ = manifest.follow(&path);
    }
}
