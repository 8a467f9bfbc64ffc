//! Suites that run with both ways of reading sealed files.

/// Makes two tests of each function, `with_maps::name` and `with_pread::name`, so that a failure names the way of reading.
/// A function that is left out of the list is dead code, which the build refuses.
macro_rules! on_both_read_modes {
    ($($test:ident),+ $(,)?) => {
        mod with_maps {
            $(#[test] fn $test() { super::$test(wattlog_engine::io::ReadMode::Map); })+
        }
        mod with_pread {
            $(#[test] fn $test() { super::$test(wattlog_engine::io::ReadMode::Pread); })+
        }
    };
}
