use super::*;
use crate::apply::machine::Event;
use crate::apply::machine::samples::{NEWER, at, grant, state, states};

/// A state with something of everything: on the way back, with another assignment waiting.
fn rich() -> State {
    state("Back: starting").on(Event::Assigned(grant(9, NEWER, at(101))), at(101)).expect("kept")
}

fn is_damaged<T: std::fmt::Debug>(read: &Result<T, Unreadable>) -> bool {
    matches!(read, Err(Unreadable::Damaged(_)))
}

#[test]
fn every_state_reads_back_as_it_was_written() {
    for (name, state) in states().into_iter().chain([("rich", rich())]) {
        let bytes = write_state(&state).expect(name);
        assert_eq!(read_state(&bytes).as_ref(), Ok(&state), "{name}");
        if let Some(floor) = state.floor {
            assert_eq!(read_floor(&write_floor(&floor).expect(name)), Ok(floor), "{name}");
        }
    }
}

/// The files of format 1, as it was shipped. A change that does not read them needs a new format.
#[test]
fn format_1_is_read_and_written_as_it_was_shipped() {
    let (journal, floor) = (include_bytes!("journal-1"), include_bytes!("floor-1"));
    let state = rich();
    let written = write_state(&state).expect("written");
    let written_floor = write_floor(&state.floor.expect("floor")).expect("written");
    if written != journal || written_floor != floor {
        let directory = std::env::temp_dir();
        std::fs::write(directory.join("houston-journal-1"), written).expect("the journal as it is");
        std::fs::write(directory.join("houston-floor-1"), written_floor).expect("the floor as it is");
        panic!("format 1 has changed; it is now in {}", directory.display());
    }
    assert_eq!(read_state(journal).as_ref(), Ok(&state));
    assert_eq!(read_floor(floor).ok(), state.floor);
}

#[test]
fn any_damage_is_noticed() {
    let floor = rich().floor.expect("floor");
    let bytes = write_floor(&floor).expect("written");
    for index in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1 << bit;
            let read = read_floor(&damaged);
            assert!(is_damaged(&read), "bit {bit} of byte {index}: {read:?}");
        }
        assert!(is_damaged(&read_floor(&bytes[..index])), "cut to {index}");
    }
    assert!(is_damaged(&read_floor(&[&bytes[..], b" "].concat())));
    assert!(is_damaged(&read_state(&bytes)), "a floor is no journal");
    assert!(is_damaged(&read_floor(&vec![0; 4096])));
}

fn record(version: u32, body: &str) -> Vec<u8> {
    let sum = checksum("houston-floor", version, body.as_bytes());
    format!("houston-floor {version} {sum}\n{body}").into_bytes()
}

#[test]
fn a_newer_format_is_told_from_damage_and_unknown_fields_are_not_dropped() {
    assert_eq!(read_floor(&record(2, "whatever it may be")), Err(Unreadable::Newer(2)));
    assert!(is_damaged(&read_floor(&record(0, "{}"))));
    let floor = rich().floor.expect("floor");
    let bytes = write_floor(&floor).expect("written");
    let text = String::from_utf8(bytes).expect("text");
    let body = text.split_once('\n').expect("two lines").1;
    assert_eq!(read_floor(&record(1, body)), Ok(floor));
    assert!(is_damaged(&read_floor(&record(1, &body.replacen('{', "{\"more\":1,", 1)))));
    assert!(is_damaged(&read_floor(&record(1, &body.replacen("\"epoch\":1", "\"epoch\":-1", 1)))));
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("entry").file_name().into_string().expect("name")).collect();
    names.sort();
    names
}

#[test]
fn records_are_replaced_whole_and_whatever_lies_in_the_way_is_not_followed() {
    let directory = tempfile::tempdir().expect("directory");
    let outside = directory.path().join("outside");
    std::fs::write(&outside, "untouched").expect("written");
    let inside = directory.path().join("prod");
    std::fs::create_dir(&inside).expect("directory");
    let files = RecordFiles::open(&inside).expect("opened");
    assert_eq!(files.read(Record::Journal), Ok(None));
    for text in ["one", "a longer two", "3"] {
        std::os::unix::fs::symlink(&outside, inside.join(".journal.new")).expect("link");
        files.write(Record::Journal, text.as_bytes()).expect("written");
        assert_eq!(files.read(Record::Journal), Ok(Some(text.as_bytes().to_vec())));
    }
    assert_eq!(std::fs::read_to_string(&outside).expect("read"), "untouched");
    assert_eq!(names(&inside), ["journal", "reserve"]);
}

#[test]
fn damaged_records_are_kept_up_to_a_number() {
    let directory = tempfile::tempdir().expect("directory");
    let files = RecordFiles::open(directory.path()).expect("opened");
    for n in 0..DAMAGED_MAX + 5 {
        files.write(Record::Floor, n.to_string().as_bytes()).expect("written");
        files.set_aside(Record::Floor).expect("set aside");
        assert_eq!(files.read(Record::Floor), Ok(None));
    }
    assert_eq!(names(directory.path()).len(), DAMAGED_MAX as usize + 1);
    assert_eq!(std::fs::read(directory.path().join("floor.damaged-1")).expect("read"), b"0");
}

#[test]
fn a_full_disk_is_given_the_reserve_once_and_the_reserve_comes_back() {
    let directory = tempfile::tempdir().expect("directory");
    let files = RecordFiles::open(directory.path()).expect("opened");
    let reserve = directory.path().join(RESERVE);
    let full = || Err(io::Error::from(ErrorKind::StorageFull));
    let mut tries = 0;
    // Full as long as the reserve is there.
    let written = files.with_reserve(|| {
        tries += 1;
        if reserve.exists() { full() } else { Ok(()) }
    });
    assert!(written.is_ok() && tries == 2, "{written:?} after {tries}");
    assert_eq!(reserve.metadata().expect("it is back").len(), RESERVE_BYTES as u64);
    // Full for good.
    tries = 0;
    let failed = files.with_reserve(|| {
        tries += 1;
        full()
    });
    assert!(failed.is_err() && tries == 2 && !reserve.exists());
    assert_eq!(files.refused("x", &failed.expect_err("full")).code, Code::DiskSpace);
    // Other errors are final: a sync that failed is not repeated.
    tries = 0;
    let failed = files.with_reserve(|| {
        tries += 1;
        Err(io::Error::other("sync"))
    });
    assert!(failed.is_err() && tries == 1);
}
