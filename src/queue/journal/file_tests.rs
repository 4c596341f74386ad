//! Which of the files counts, and what is done about the others.

use super::super::codec::tests::header_of_version;
use super::super::entry::Checkpoint;
use super::super::folder_fixture::Folder;
use super::super::world_fixture::World;
use super::*;
use crate::log::Seq;

const QUEUE: &str = "central";

fn checkpoint(entered: u64) -> Entry {
    Entry::Checkpoint(Box::new(Checkpoint {
        cursor: Seq(entered),
        entered: Seq(entered),
        next_batch: 1,
        ..Checkpoint::default()
    }))
}

fn begun(folder: &Folder, queue: &str, number: u64) -> String {
    let begun = begin(folder, queue, (number, 9), &checkpoint(number));
    begun.map_err(|not| not.error).unwrap().name
}

fn entered(opened: &Opened) -> Option<Seq> {
    opened.recovered.as_ref().map(|found| found.entered)
}

fn damage(folder: &Folder, name: &str, at: usize) {
    let mut bytes = folder.bytes(name);
    bytes[at] ^= 1;
    folder.put(name, &bytes);
}

#[test]
fn an_empty_folder_has_no_journal() {
    let opened = open(&Folder::default(), QUEUE).unwrap();
    assert!(opened.recovered.is_none() && opened.set_aside.is_empty());
    assert_eq!(opened.past, Past::default());
}

#[test]
fn the_newest_whole_file_counts_and_the_older_are_replaced_later() {
    let folder = Folder::default();
    let names: Vec<_> = [3, 12, 7].map(|n| begun(&folder, QUEUE, n)).into();
    let opened = open(&folder, QUEUE).unwrap();
    assert_eq!(entered(&opened), Some(Seq(12)));
    assert_eq!(opened.past.generation, 12);
    let replaced = [&names[1], &names[2], &names[0]];
    assert!(
        opened.past.replaced.iter().eq(replaced),
        "newest first, itself too"
    );
    assert_eq!(
        folder.list().unwrap().len(),
        3,
        "nothing is removed before a newer is durable"
    );
}

#[test]
fn a_damaged_file_is_set_aside_and_the_one_before_it_counts() {
    let folder = Folder::default();
    begun(&folder, QUEUE, 1);
    let newer = begun(&folder, QUEUE, 2);
    damage(&folder, &newer, 5);
    let opened = open(&folder, QUEUE).unwrap();
    assert_eq!(entered(&opened), Some(Seq(1)));
    let aside = "central.0000000002.journal.damaged";
    assert_eq!(opened.set_aside[0].0, aside);
    assert!(folder.list().unwrap().contains(&aside.to_owned()));
    assert_eq!(opened.past.generation, 2, "its number is not given again");
    let again = open(&folder, QUEUE).unwrap();
    assert_eq!((again.past.generation, again.set_aside.len()), (2, 0));
}

#[test]
fn when_none_is_whole_all_are_set_aside_and_none_is_removed() {
    let folder = Folder::default();
    let names = [1, 2, 3].map(|n| begun(&folder, QUEUE, n));
    damage(&folder, &names[0], 30);
    damage(&folder, &names[1], 3);
    folder.put(&names[2], &folder.bytes(&names[2])[..20]);
    let opened = open(&folder, QUEUE).unwrap();
    assert!(opened.recovered.is_none());
    assert_eq!(opened.set_aside.len(), 3);
    assert!(opened.past.replaced.is_empty());
    let kept = folder.list().unwrap();
    assert!(kept.len() == 3 && kept.iter().all(|name| name.ends_with(".damaged")));
}

#[test]
fn a_file_that_cannot_be_renamed_stays_and_is_never_removed() {
    let folder = Folder::default();
    let name = begun(&folder, QUEUE, 1);
    damage(&folder, &name, 0);
    folder.refuse(|_| Some(io::ErrorKind::PermissionDenied));
    let opened = open(&folder, QUEUE).unwrap();
    assert_eq!(opened.set_aside[0].0, name);
    assert!(opened.past.replaced.is_empty());
    assert_eq!(opened.past.generation, 1);
}

#[test]
fn a_file_that_a_crash_left_unfinished_is_replaced_without_a_word() {
    for length in [0, 3, 22, 30] {
        let folder = Folder::default();
        begun(&folder, QUEUE, 1);
        let unfinished = begun(&folder, QUEUE, 2);
        folder.put(&unfinished, &folder.bytes(&unfinished)[..length]);
        let opened = open(&folder, QUEUE).unwrap();
        assert_eq!(entered(&opened), Some(Seq(1)), "{length}");
        assert!(opened.set_aside.is_empty() && opened.past.replaced.contains(&unfinished));
    }
}

#[test]
fn a_version_to_come_is_left_alone_with_all_that_is_beside_it() {
    let folder = Folder::default();
    let damaged = begun(&folder, QUEUE, 1);
    damage(&folder, &damaged, 5);
    let newer = "central.0000000002.journal";
    folder.put(newer, &header_of_version(2));
    let before = folder.ops().len();
    let error = open(&folder, QUEUE).unwrap_err();
    assert!(matches!(&error, OpenError::UnknownVersion { name, version: 2 } if name == newer));
    assert!(error.to_string().contains("newer version"), "{error}");
    assert_eq!(folder.ops().len(), before, "nothing was changed");
}

#[test]
fn every_queue_has_its_own_files_and_nothing_else_is_touched() {
    let folder = Folder::default();
    let strange = "a.b/c%2e\u{e9}";
    for (number, queue) in ["a", "a-b", strange].into_iter().enumerate() {
        begun(&folder, queue, number as u64 + 1);
    }
    let others = [
        "a.1.journal",
        "a.0000000009.journal.bak",
        "a..journal",
        "lock",
        "a.journal",
    ];
    for name in others {
        folder.put(name, b"none of ours");
    }
    for (number, queue) in ["a", "a-b", strange].into_iter().enumerate() {
        let opened = open(&folder, queue).unwrap();
        let number = number as u64 + 1;
        assert_eq!(entered(&opened), Some(Seq(number)));
        assert_eq!(opened.past.replaced, [name_of(queue, number)]);
    }
    assert!(
        others
            .iter()
            .all(|name| folder.bytes(name) == b"none of ours")
    );
    assert_eq!(
        name_of(strange, 3),
        "a%2Eb%2Fc%252e%C3%A9.0000000003.journal"
    );
}

#[test]
fn a_file_under_the_name_of_another_queue_is_not_believed() {
    let folder = Folder::default();
    let name = begun(&folder, "other", 1);
    folder.put("central.0000000001.journal", &folder.bytes(&name));
    let opened = open(&folder, QUEUE).unwrap();
    assert!(opened.recovered.is_none());
    assert!(opened.set_aside[0].1.contains("other"));
}

#[test]
fn a_file_with_any_bit_flipped_or_any_end_cut_off_is_read_as_far_as_it_goes_or_set_aside() {
    let mut world = World::new(11);
    (0..10).for_each(|_| drop(world.step()));
    let folder = Folder::default();
    let start = Entry::Checkpoint(Box::new(world.checkpoint()));
    let begun = begin(&folder, QUEUE, (1, 9), &start).map_err(|not| not.error);
    let name = begun.unwrap().name;
    let mut whole = folder.bytes(&name);
    let checkpoint = whole.len();
    (0..20).for_each(|_| put_frame(&mut whole, 9, &world.step()).unwrap());
    let look = |bytes: &[u8], entries_hurt: bool, what: String| {
        let folder = Folder::default();
        folder.put(&name, bytes);
        let opened = open(&folder, QUEUE).unwrap();
        match &opened.recovered {
            Some(found) => {
                let settled = world.settled_in(found);
                assert!(
                    entries_hurt && settled.is_subset(&world.settled()),
                    "{what}"
                );
            }
            None => assert!(!entries_hurt && opened.set_aside.len() == 1, "{what}"),
        }
        opened.damage
    };
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let hurt = bit / 8 >= checkpoint;
        let damage = look(&bytes, hurt, format!("bit {bit}"));
        assert_eq!(damage != Damage::default(), hurt, "bit {bit}");
    }
    for end in 0..whole.len() {
        look(&whole[..end], end >= checkpoint, format!("cut at {end}"));
    }
}
