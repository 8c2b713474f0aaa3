use houston_common::clock::WallTime;
use houston_common::command::{PackageFinish, Page, RemovePackage};
use houston_common::digest::{Digest, TreeDigest};
use houston_common::error::Code;
use houston_common::view::PackageId;

use super::super::fixture::{WALL, World, alice, name, package, refused, set};
use super::{
    commit_package, create_set, get_package, get_set, list_packages, list_sets, referenced_trees,
    remove_package,
};

fn id(package: &str, version: &str) -> PackageId {
    PackageId { name: name(package), version: name(version) }
}

fn finish(version: &str, tree: &str) -> PackageFinish {
    PackageFinish { package: package(version, tree), reason: String::new() }
}

#[test]
fn a_package_is_entered_once_and_never_changes() {
    let world = World::prod();
    let same = commit_package(&world.state, &alice(), &finish("v1", "tree of v1"), 10, WALL).expect("there");
    assert!(same.edits.is_empty() && same.note.is_none());
    let other = commit_package(&world.state, &alice(), &finish("v1", "other"), 10, WALL);
    let told = refused(other, Code::PackageExists);
    assert!(told.contains("web v1") && told.contains("alice"), "{told}");
    assert_eq!(get_package(&world.state, &id("web", "v1")).expect("there").used_by, [name("v1")]);
}

#[test]
fn a_package_goes_when_nothing_names_it() {
    let mut world = World::prod();
    let remove = |version: &str| RemovePackage { package: id("web", version), reason: String::new() };
    let told = refused(remove_package(&world.state, &alice(), &remove("v1")), Code::PackageInUse);
    assert!(told.contains("version set v1"), "{told}");
    let decided =
        commit_package(&world.state, &alice(), &finish("v3", "tree of v3"), 10, WALL).expect("entered");
    world.commit(decided);
    let tree = TreeDigest(Digest::of(b"tree of v3"));
    assert!(referenced_trees(&world.state).contains(&tree));
    let decided = remove_package(&world.state, &alice(), &remove("v3")).expect("removed");
    world.commit(decided);
    assert!(!referenced_trees(&world.state).contains(&tree));
    assert_eq!(referenced_trees(&world.state).len(), 2);
    let told = refused(remove_package(&world.state, &alice(), &remove("v3")), Code::PackageUnknown);
    assert!(told.contains("did you mean"), "{told}");
}

#[test]
fn version_sets_refuse_what_is_not_a_set() {
    let world = World::prod();
    let create =
        |name: &str, packages: &[PackageId]| create_set(&world.state, &alice(), &set(name, packages), WALL);
    refused(create("empty", &[id("web", "v1")]), Code::Name);
    refused(create("none", &[]), Code::Field);
    refused(create("twice", &[id("web", "v1"), id("web", "v2")]), Code::Field);
    refused(create("many", &vec![id("web", "v1"); 65]), Code::Limit);
    let told = refused(create("typo", &[id("wbe", "v1")]), Code::PackageUnknown);
    assert!(told.contains("did you mean \"web\"?"), "{told}");
    refused(create("v1", &[id("web", "v2")]), Code::VersionSetExists);
    let told = refused(create("alias", &[id("web", "v2")]), Code::VersionSetExists);
    assert!(told.contains("use v2"), "{told}");
    let same = create("v1", &[id("web", "v1")]).expect("there");
    assert!(same.edits.is_empty() && same.note.is_none());
}

#[test]
fn version_sets_are_listed_newest_first() {
    let mut world = World::prod();
    world.version_set("v3");
    let mut page = Page { size: 2, token: None };
    let first = list_sets(&world.state, &page).expect("a page");
    assert_eq!(first.items.iter().map(|set| set.name.as_str()).collect::<Vec<_>>(), ["v3", "v2"]);
    page.token = first.next;
    let last = list_sets(&world.state, &page).expect("a page");
    assert_eq!(last.items.iter().map(|set| set.name.as_str()).collect::<Vec<_>>(), ["v1"]);
    assert_eq!((last.next, last.items[0].baked_in.as_slice()), (None, &[name("prod")][..]));
    page.token = Some("v1".to_owned());
    refused(list_sets(&world.state, &page), Code::Field);
}

#[test]
fn the_empty_set_exists_everywhere() {
    let world = World::prod();
    let empty = get_set(&world.state, &name("empty")).expect("there");
    assert!(empty.packages.is_empty() && empty.baked_in.is_empty());
    assert_eq!(empty.created_at, WallTime(0));
    let told = refused(get_set(&world.state, &name("v11")), Code::VersionSetUnknown);
    assert!(told.contains("did you mean \"v1\"? newest: v2, v1"), "{told}");
}

#[test]
fn packages_are_listed_by_name_and_version() {
    let world = World::prod();
    let mut page = Page { size: 1, token: None };
    let first = list_packages(&world.state, &page).expect("a page");
    assert_eq!(first.items[0].package.version, name("v1"));
    page.token = first.next;
    let last = list_packages(&world.state, &page).expect("a page");
    assert_eq!((last.items[0].used_by.as_slice(), last.next), (&[name("v2")][..], None));
    page.token = Some("web".to_owned());
    refused(list_packages(&world.state, &page), Code::Field);
}
