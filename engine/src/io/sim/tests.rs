use super::*;
use crate::io::{Map, ReadMode, open_sealed, read_all};

fn write(disk: &SimDisk, path: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.create(path).unwrap();
    file.write_at(0, bytes).unwrap();
    file
}

/// A file that is durable with its name.
fn keep(disk: &SimDisk, path: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = write(disk, path, bytes);
    file.sync_data().unwrap();
    disk.sync_dir(parent(path)).unwrap();
    file
}

/// What a cut would leave; the disk itself goes on.
fn cut(disk: &SimDisk, survives: Survives, seed: u64) -> SimDisk {
    disk.fork().cut(Cut { survives, seed })
}

/// All the contents a file comes back with over many cuts; `None` is no file.
fn outcomes(disk: &SimDisk, path: &str) -> BTreeSet<Option<Vec<u8>>> {
    (0..400).map(|seed| cut(disk, Survives::Some, seed).read_file(path)).collect()
}

#[test]
fn what_is_synced_with_its_name_survives_every_cut() {
    let disk = SimDisk::new(1);
    disk.create_dir("wal").unwrap();
    disk.sync_dir("").unwrap();
    keep(&disk, "wal/a", b"kept");
    for seed in 0..200 {
        assert_eq!(disk.cut(Cut::from_seed(seed)).read_file("wal/a").unwrap(), b"kept");
    }
}

#[test]
fn nothing_and_everything_are_ways_to_come_back() {
    let disk = SimDisk::new(1);
    let file = keep(&disk, "a", b"old");
    file.write_at(0, b"newer").unwrap();
    write(&disk, "b", b"b");
    let nothing = cut(&disk, Survives::Nothing, 0);
    assert_eq!(nothing.paths(), [("a".to_owned(), 3)]);
    assert_eq!(nothing.read_file("a").unwrap(), b"old");
    let everything = cut(&disk, Survives::Everything, 0);
    assert_eq!(everything.read_file("a").unwrap(), b"newer");
    assert_eq!(everything.read_file("b").unwrap(), b"b");
}

#[test]
fn a_cut_disk_answers_nothing_more() {
    let disk = SimDisk::new(1);
    let file = keep(&disk, "a", b"a");
    let map = file.map().unwrap();
    let lock = disk.lock("LOCK").unwrap();
    let after = disk.cut(Cut { survives: Survives::Everything, seed: 0 });
    assert!(disk.is_off() && !after.is_off());
    assert!(file.read_at(0, &mut [0]).is_err());
    assert!(file.write_at(0, b"x").is_err());
    assert!(file.sync_data().is_err());
    assert!(map.copy_at(0, &mut [0]).is_err());
    assert!(disk.list("").is_err());
    // Nobody holds the lock of the disk that came back.
    after.lock("LOCK").unwrap();
    drop(lock);
    assert_eq!(after.read_file("a").unwrap(), b"a");
}

#[test]
fn a_name_is_lost_without_its_directory_synced() {
    let disk = SimDisk::new(1);
    write(&disk, "a", b"x").sync_data().unwrap();
    assert_eq!(cut(&disk, Survives::Nothing, 0).read_file("a"), None);
}

#[test]
fn a_new_directory_takes_its_files_with_it() {
    let disk = SimDisk::new(1);
    disk.create_dir("dir").unwrap();
    keep(&disk, "dir/a", b"x");
    assert_eq!(cut(&disk, Survives::Nothing, 0).paths(), []);
    disk.sync_dir("").unwrap();
    assert_eq!(cut(&disk, Survives::Nothing, 0).read_file("dir/a").unwrap(), b"x");
}

#[test]
fn a_renamed_file_may_be_empty_and_a_removed_one_may_come_back() {
    let disk = SimDisk::new(1);
    write(&disk, "a.tmp", b"body");
    disk.rename("a.tmp", "a").unwrap();
    disk.sync_dir("").unwrap();
    assert!(outcomes(&disk, "a").contains(&Some(Vec::new())));

    keep(&disk, "b", b"b");
    disk.remove("b").unwrap();
    assert_eq!(outcomes(&disk, "b"), [None, Some(b"b".to_vec())].into());
    disk.sync_dir("").unwrap();
    assert_eq!(outcomes(&disk, "b"), [None].into());
}

#[test]
fn a_rename_inside_a_directory_leaves_one_name_or_the_other() {
    let disk = SimDisk::new(1);
    keep(&disk, "new", b"new");
    keep(&disk, "old", b"old");
    disk.rename("new", "old").unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let after = cut(&disk, Survives::Some, seed);
        seen.insert((after.read_file("new"), after.read_file("old").unwrap()));
    }
    assert_eq!(seen, [(None, b"new".to_vec()), (Some(b"new".to_vec()), b"old".to_vec())].into());
}

#[test]
fn a_file_moved_between_directories_is_never_lost() {
    for synced in [None, Some("one"), Some("two")] {
        let disk = SimDisk::new(1);
        disk.create_dir("one").unwrap();
        disk.create_dir("two").unwrap();
        disk.sync_dir("").unwrap();
        keep(&disk, "one/a", b"a");
        disk.rename("one/a", "two/a").unwrap();
        if let Some(dir) = synced {
            disk.sync_dir(dir).unwrap();
        }
        let mut seen = BTreeSet::new();
        for seed in 0..400 {
            let after = cut(&disk, Survives::Some, seed);
            seen.insert((after.read_file("one/a").is_some(), after.read_file("two/a").is_some()));
        }
        let expected: BTreeSet<(bool, bool)> = match synced {
            None => [(true, false), (false, true), (true, true)].into(),
            Some("one") => [(false, true)].into(),
            _ => [(false, true), (true, true)].into(),
        };
        assert_eq!(seen, expected, "{synced:?} was synced");
    }
}

#[test]
fn operations_on_one_name_keep_their_order() {
    let disk = SimDisk::new(1);
    keep(&disk, "a", b"1");
    disk.remove("a").unwrap();
    keep_unnamed(&disk, "a", b"2");
    disk.rename("a", "b").unwrap();
    keep_unnamed(&disk, "a", b"3");
    for seed in 0..400 {
        let after = cut(&disk, Survives::Some, seed);
        let found = (after.read_file("a"), after.read_file("b"));
        let text = |bytes: &Option<Vec<u8>>| {
            bytes.as_ref().map_or("-".into(), |bytes| String::from_utf8(bytes.clone()).unwrap())
        };
        let found = text(&found.0) + &text(&found.1);
        assert!(["1-", "--", "2-", "-2", "32"].contains(&found.as_str()), "{found}");
    }
}

fn keep_unnamed(disk: &SimDisk, path: &str, bytes: &[u8]) {
    write(disk, path, bytes).sync_data().unwrap();
}

#[test]
fn unsynced_bytes_survive_in_whole_pieces_of_any_subset() {
    for piece in [512, 4096] {
        let disk = SimDisk::new(1);
        disk.set_piece_bytes(piece);
        let file = keep(&disk, "a", &vec![1; 4 * piece]);
        file.write_at(0, &vec![2; 4 * piece]).unwrap();
        let mut seen = BTreeSet::new();
        for bytes in outcomes(&disk, "a").into_iter().flatten() {
            let pieces: Vec<u8> = bytes.chunks(piece).map(|part| part[0]).collect();
            assert!(bytes.chunks(piece).all(|part| part.iter().all(|&byte| byte == part[0])));
            seen.insert(pieces);
        }
        assert_eq!(seen.len(), 16, "every subset of four pieces");
    }
}

#[test]
fn a_piece_holds_one_of_its_versions() {
    let disk = SimDisk::new(1);
    let file = keep(&disk, "a", &[b'0'; 4]);
    file.write_at(0, b"1").unwrap();
    file.write_at(1, b"2").unwrap();
    let seen: BTreeSet<Option<Vec<u8>>> = outcomes(&disk, "a");
    let versions = ["0000", "1000", "1200"].map(|text| Some(text.as_bytes().to_vec()));
    assert_eq!(seen, versions.into(), "never the second write without the first");
}

#[test]
fn the_length_may_be_there_without_the_bytes() {
    let disk = SimDisk::new(1);
    let file = keep(&disk, "a", &[1; 512]);
    keep(&disk, "other", &[9; 4096]);
    file.write_at(512, &[2; 512]).unwrap();
    let seen = outcomes(&disk, "a");
    let with_tail = |tail: &[u8]| Some([&[1; 512], tail].concat());
    assert!(seen.contains(&with_tail(&[])), "neither");
    assert!(seen.contains(&with_tail(&[2; 512])), "both");
    assert!(seen.contains(&with_tail(&[0; 512])), "the length over zeros");
    assert!(seen.contains(&with_tail(&[9; 512])), "the length over what another file left");
    assert!(seen.iter().flatten().all(|bytes| bytes[..512] == [1; 512]), "synced bytes never change");
}

#[test]
fn a_cut_length_may_come_back_and_a_grown_one_is_zeros() {
    let disk = SimDisk::new(1);
    let file = keep(&disk, "a", b"abcdef");
    file.set_len(2).unwrap();
    file.set_len(4).unwrap();
    assert_eq!(disk.read_file("a").unwrap(), b"ab\0\0");
    assert_eq!(cut(&disk, Survives::Nothing, 0).read_file("a").unwrap(), b"abcdef");
    let seen = outcomes(&disk, "a");
    assert!(seen.len() > 3, "{seen:?}");
    assert!(seen.iter().flatten().all(|bytes| bytes.starts_with(b"ab") && bytes.len() <= 6));
}

#[test]
fn a_sync_covers_its_own_file_alone() {
    let disk = SimDisk::new(1);
    let (a, b) = (keep(&disk, "a", b"a"), keep(&disk, "b", b"b"));
    a.write_at(0, b"A").unwrap();
    b.write_at(0, b"B").unwrap();
    disk.open("a", Access::ReadWrite).unwrap().sync_data().unwrap();
    let after = cut(&disk, Survives::Nothing, 0);
    assert_eq!(after.read_file("a").unwrap(), b"A", "through whichever handle");
    assert_eq!(after.read_file("b").unwrap(), b"b");
}

#[test]
fn a_failed_sync_loses_what_it_was_to_keep_and_the_next_says_nothing() {
    let mut lost = 0;
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let file = keep(&disk, "a", b"old");
        file.write_at(0, b"new").unwrap();
        disk.inject(Fault::at(1, FaultError::Eio, Lasting::Once).on(CallKind::SyncData));
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        assert_eq!(disk.read_file("a").unwrap(), b"new", "the page cache still shows it");
        lost += i32::from(cut(&disk, Survives::Everything, 0).read_file("a").unwrap() == b"old");
    }
    assert!((1..40).contains(&lost), "lost in {lost} of 40");
}

#[test]
fn faults_strike_at_the_nth_matching_call() {
    let disk = SimDisk::new(1);
    disk.create_dir("wal").unwrap();
    let (log, other) = (write(&disk, "wal/a", b""), write(&disk, "b", b""));
    disk.inject(Fault::at(2, FaultError::Eio, Lasting::Once).on(CallKind::Write).within(SyncName::WalFile));
    log.write_at(0, b"1").unwrap();
    other.write_at(0, b"1").unwrap();
    log.sync_data().unwrap();
    let error = log.write_at(0, b"2").unwrap_err();
    assert!(error.to_string().contains("wal/a"), "{error}");
    log.write_at(0, b"3").unwrap();

    disk.inject(Fault::at(2, FaultError::Eio, Lasting::ForGood));
    disk.list("").unwrap();
    assert!(disk.list("").is_err() && log.len().is_err() && log.read_at(0, &mut [0]).is_err());
    disk.clear_faults();
    assert_eq!(read_all(&disk, "wal/a", 10).unwrap(), b"3");
}

#[test]
fn no_space_strikes_only_what_takes_space() {
    let disk = SimDisk::new(1);
    let file = keep(&disk, "a", b"a");
    disk.inject(Fault::at(1, FaultError::NoSpace, Lasting::ForGood));
    assert_eq!(file.read_at(0, &mut [0]).unwrap(), 1);
    assert!(crate::io::is_full(&file.write_at(0, b"b").unwrap_err()));
    assert!(crate::io::is_full(&disk.create("b").unwrap_err()));
    disk.remove("a").unwrap();
}

#[test]
fn a_short_write_leaves_a_part() {
    let mut lens = BTreeSet::new();
    for seed in 0..60 {
        let disk = SimDisk::new(seed);
        let file = disk.create("a").unwrap();
        disk.inject(Fault::at(1, FaultError::ShortWrite, Lasting::Once).on(CallKind::Write));
        assert!(file.write_at(0, b"abcd").is_err());
        let bytes = disk.read_file("a").unwrap();
        assert!(b"abcd".starts_with(&bytes));
        lens.insert(bytes.len());
    }
    assert_eq!(lens, [0, 1, 2, 3].into());
}

#[test]
fn a_signal_is_not_noticed_and_an_endless_row_of_them_is_an_error() {
    let disk = SimDisk::new(1);
    let file = keep(&disk, "a", b"old");
    let calls = || {
        file.write_at(0, b"new and long")?;
        file.set_len(3)?;
        file.read_at(0, &mut [0; 3])?;
        file.sync_data()?;
        disk.sync_dir("")
    };
    let once = |kind| disk.inject(Fault::at(1, FaultError::Interrupted, Lasting::Once).on(kind));
    let interruptible: Vec<_> = CallKind::ALL.into_iter().filter(|kind| kind.is_interruptible()).collect();
    let before = disk.counts().calls;
    interruptible.iter().for_each(|kind| once(*kind));
    calls().unwrap();
    assert_eq!(disk.counts().calls - before, 10, "each was made twice");
    assert_eq!(cut(&disk, Survives::Nothing, 0).read_file("a").unwrap(), b"new");
    for kind in interruptible {
        disk.inject(Fault::at(1, FaultError::Interrupted, Lasting::ForGood).on(kind));
        let error = calls().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Other, "{kind:?}: {error}");
        disk.clear_faults();
    }
    calls().unwrap();
}

#[test]
fn a_full_disk_takes_what_fits_until_room_is_made() {
    let disk = SimDisk::new(1);
    disk.set_capacity_bytes(Some(10));
    keep(&disk, "a", b"123456");
    let file = disk.create("b").unwrap();
    let error = file.write_at(0, b"abcdefgh").unwrap_err();
    assert!(crate::io::is_full(&error), "{error}");
    assert_eq!(disk.read_file("b").unwrap(), b"abcd");
    assert_eq!(disk.available_bytes().unwrap(), 0);
    file.write_at(0, b"ABCD").unwrap();
    file.set_len(100).unwrap();
    assert_eq!(disk.used_bytes(), 10, "growing by length takes nothing");
    file.set_len(2).unwrap();
    file.write_at(2, b"xy").unwrap();
    disk.remove("a").unwrap();
    file.write_at(4, b"123456").unwrap();
    assert!(file.write_at(10, b"7").is_err());
}

#[test]
fn a_skipped_sync_is_found_by_a_cut_and_touches_no_other() {
    let disk = SimDisk::new(1);
    disk.create_dir("wal").unwrap();
    disk.create_dir("segments").unwrap();
    disk.sync_dir("").unwrap();
    disk.skip_sync(Some(SyncName::WalFile));
    keep(&disk, "wal/a", b"a");
    keep(&disk, "segments/a.tmp", b"a");
    disk.skip_sync(Some(SyncName::SegmentsDir));
    disk.rename("segments/a.tmp", "segments/a").unwrap();
    disk.sync_dir("segments").unwrap();
    let counts = disk.counts();
    assert_eq!((counts.syncs_skipped, counts.syncs_of(SyncName::WalFile)), (2, 1));
    let after = cut(&disk, Survives::Nothing, 0);
    let files = [("segments/a.tmp".to_owned(), 1), ("wal/a".to_owned(), 0)];
    assert_eq!(after.paths(), files);
}

#[test]
fn a_lying_disk_keeps_nothing() {
    let disk = SimDisk::new(1);
    disk.set_lying(true);
    keep(&disk, "a", b"a");
    assert_eq!(cut(&disk, Survives::Nothing, 0).paths(), []);
}

#[test]
fn the_power_goes_before_or_after_the_nth_call() {
    for (moment, expected) in [(CutMoment::Before, "old"), (CutMoment::After, "new")] {
        let disk = SimDisk::new(1);
        let file = keep(&disk, "a", b"old");
        file.write_at(0, b"new").unwrap();
        disk.cut_at_call(2, moment);
        disk.list("").unwrap();
        assert!(file.sync_data().is_err());
        assert!(disk.is_off() && disk.list("").is_err());
        let after = cut(&disk, Survives::Nothing, 0);
        assert_eq!(after.read_file("a").unwrap(), expected.as_bytes());
    }
    let disk = SimDisk::new(1);
    disk.cut_at_call(1, CutMoment::After);
    assert!(disk.lock("LOCK").is_err());
}

#[test]
fn lost_pages_and_flipped_bits_show_in_both_ways_of_reading() {
    for mode in [ReadMode::Map, ReadMode::Pread] {
        let disk = SimDisk::new(1);
        keep(&disk, "a", &[0; 10_000]);
        let map: Arc<dyn Map> = open_sealed(&disk, "a", mode).unwrap();
        let mut byte = [0];
        disk.flip_bit("a", 5000, 3);
        map.copy_at(5000, &mut byte).unwrap();
        assert_eq!(byte, [8]);
        disk.spoil_page("a", 5000);
        map.copy_at(0, &mut byte).unwrap();
        assert!(map.copy_at(4095, &mut [0; 2]).is_err());
        assert!(map.is_poisoned() && map.copy_at(0, &mut byte).is_err());
        let again = open_sealed(&disk, "a", mode).unwrap();
        again.copy_at(8192, &mut byte).unwrap();
        disk.inject(Fault::at(2, FaultError::Eio, Lasting::Once));
        again.copy_at(0, &mut byte).unwrap();
        assert!(again.copy_at(0, &mut byte).is_err() && again.is_poisoned());
        assert_eq!(again.copy_at(9999, &mut [0; 2]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
}

#[test]
fn a_map_outlives_the_name_of_its_file() {
    let disk = SimDisk::new(1);
    keep(&disk, "a", b"old");
    let map = open_sealed(&disk, "a", ReadMode::Map).unwrap();
    disk.remove("a").unwrap();
    keep(&disk, "a", b"new");
    let mut bytes = [0; 3];
    map.copy_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"old");
}

#[test]
fn a_fork_goes_its_own_way_from_the_same_state() {
    let disk = SimDisk::new(1);
    let file = keep(&disk, "a", b"old");
    file.write_at(0, b"new").unwrap();
    let fork = disk.fork();
    file.sync_data().unwrap();
    assert_eq!(cut(&fork, Survives::Nothing, 0).read_file("a").unwrap(), b"old");
    fork.write_file("a", b"x".to_vec());
    assert_eq!(disk.read_file("a").unwrap(), b"new");
    disk.settle();
    assert_eq!(cut(&disk, Survives::Nothing, 0).read_file("a").unwrap(), b"new");
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let run = |seed| {
        let disk = SimDisk::new(seed);
        for name in ["a", "b", "c"] {
            write(&disk, name, &[1; 3000]);
        }
        disk.rename("a", "d").unwrap();
        let after = disk.cut(Cut { survives: Survives::Some, seed });
        after.paths().into_iter().map(|(path, _)| after.read_file(&path)).collect::<Vec<_>>()
    };
    assert!((0..50).all(|seed| run(seed) == run(seed)));
    assert!((1..50).any(|seed| run(seed) != run(0)));
}

#[test]
fn calls_are_counted_and_traced() {
    let disk = SimDisk::new(1);
    disk.start_trace();
    let file = keep(&disk, "a", b"abc");
    file.read_at(0, &mut [0; 2]).unwrap();
    let counts = disk.counts();
    assert_eq!((counts.calls, counts.of(CallKind::Write), counts.syncs_of(SyncName::RootDir)), (5, 1, 1));
    assert_eq!((counts.bytes_written, counts.bytes_synced, counts.bytes_read), (3, 3, 2));
    assert_eq!(disk.trace(), ["1 Create a", "2 Write a 0+3", "3 SyncData a", "4 SyncDir", "5 Read a 0+2"]);
}

#[test]
fn names_behave_as_on_a_real_disk() {
    let disk = SimDisk::new(1);
    assert_eq!(disk.create("dir/a").unwrap_err().kind(), ErrorKind::NotFound);
    disk.create_dir("dir").unwrap();
    disk.create_dir("dir").unwrap();
    disk.create("dir/a").unwrap();
    assert_eq!(disk.create("dir/a").unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(disk.rename("dir/x", "dir/y").unwrap_err().kind(), ErrorKind::NotFound);
    assert!(disk.rename("dir/a", "dir").is_err());
    assert!(disk.remove("dir").is_err());
    assert_eq!(disk.open("../a", Access::Read).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(disk.open("dir/a", Access::Read).unwrap().write_at(0, b"x").is_err());
    let entry = DirEntry { name: "dir".into(), len: 0, is_dir: true };
    assert_eq!(disk.list("").unwrap(), [entry]);
    let lock = disk.lock("LOCK").unwrap();
    assert_eq!(disk.lock("LOCK").unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(lock);
    disk.lock("LOCK").unwrap();
}

#[test]
fn threads_may_share_a_disk() {
    let disk = SimDisk::new(1);
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let disk = &disk;
            scope.spawn(move || {
                let file = keep(disk, name, name.as_bytes());
                (0..100).for_each(|i| file.write_at(i, b"x").unwrap());
                file.sync_data().unwrap();
            });
        }
    });
    let after = cut(&disk, Survives::Nothing, 0);
    assert_eq!(after.paths().iter().map(|(_, len)| *len).collect::<Vec<_>>(), [100; 4]);
}
