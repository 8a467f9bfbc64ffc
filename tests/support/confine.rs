//! A process with little memory: in a control group of its own where one can be made, else with a limit on its data.
//!
//! A control group counts what lies in memory, pages of files too (those the kernel takes back when it must), and kills. `RLIMIT_DATA`
//! counts what was asked for, stacks included, and lets allocations fail, which ends a process of ours too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub enum Confinement {
    Group(Group),
    Data { bytes: u64 },
}

/// A control group; removed when dropped, which must be after its process has ended.
pub struct Group {
    folder: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Version {
    V1,
    V2,
}

impl Confinement {
    /// A limit of so many bytes, by whichever way `WATTLOG_MEMORY_BY` names (`cgroup` or `data`), or the first that works.
    pub fn new(bytes: u64) -> Result<Self, String> {
        let way = std::env::var("WATTLOG_MEMORY_BY").unwrap_or_default();
        let group = if way == "data" { Err("not wanted".to_owned()) } else { Group::new(bytes) };
        match group {
            Ok(group) => Ok(Self::Group(group)),
            Err(error) if way == "cgroup" => Err(error),
            Err(error) => Self::data(bytes).map_err(|other| format!("{error}; {other}")),
        }
    }

    fn data(bytes: u64) -> Result<Self, String> {
        let this = Self::Data { bytes };
        let mut command = Command::new("cat");
        command.arg("/proc/self/limits").env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let output = this.launch(command).output().map_err(|error| format!("no shell: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let is_set = |line: &str| line.starts_with("Max data size") && line.contains(&bytes.to_string());
        if text.lines().any(is_set) { Ok(this) } else { Err("no limit on data can be set".to_owned()) }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Group(Group { version: Version::V1, .. }) => "cgroup v1",
            Self::Group(_) => "cgroup v2",
            Self::Data { .. } => "RLIMIT_DATA",
        }
    }

    /// The same command within the limit, with the process id that it would have had.
    pub fn launch(&self, inner: Command) -> Command {
        let mut command = Command::new("sh");
        match self {
            Self::Group(group) => {
                command.args(["-c", r#"echo $$ > "$0" && exec "$@""#]).arg(group.folder.join("cgroup.procs"));
            }
            Self::Data { bytes } => {
                command.args(["-c", r#"ulimit -d "$0" && exec "$@""#]).arg((bytes / 1024).to_string());
            }
        }
        command.arg(inner.get_program()).args(inner.get_args()).env_clear();
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(folder) = inner.get_current_dir() {
            command.current_dir(folder);
        }
        command
    }

    /// Most bytes that the group counted, pages of files included, if the kernel tells.
    pub fn most_counted(&self) -> Option<u64> {
        let Self::Group(group) = self else { return None };
        let file = if group.version == Version::V1 { "memory.max_usage_in_bytes" } else { "memory.peak" };
        fs::read_to_string(group.folder.join(file)).ok()?.trim().parse().ok()
    }
}

impl Group {
    fn new(bytes: u64) -> Result<Self, String> {
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let mut tried = Vec::new();
        for line in own.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            let relative = path.trim_start_matches('/');
            let homes: Vec<(PathBuf, Version)> = if controllers.split(',').any(|name| name == "memory") {
                vec![(Path::new("/sys/fs/cgroup/memory").join(relative), Version::V1)]
            } else if controllers.is_empty() {
                // A group with processes in it can give its children no controller: beside it is the usual place.
                let own = Path::new("/sys/fs/cgroup").join(relative);
                let beside = own.parent().filter(|_| !relative.is_empty()).map(Path::to_owned);
                [Some(own), beside].into_iter().flatten().map(|home| (home, Version::V2)).collect()
            } else {
                continue;
            };
            for (home, version) in homes {
                match Self::make(&home, version, bytes) {
                    Ok(group) => return Ok(group),
                    Err(error) => tried.push(format!("{}: {error}", home.display())),
                }
            }
        }
        Err(format!("no control group can be made ({})", tried.join("; ")))
    }

    fn make(home: &Path, version: Version, bytes: u64) -> Result<Self, String> {
        let folder = home.join(format!("wattlog-test-{}", std::process::id()));
        fs::create_dir(&folder).map_err(|error| error.to_string())?;
        // From here on it is removed whatever happens.
        let group = Self { folder, version };
        let file = if version == Version::V1 { "memory.limit_in_bytes" } else { "memory.max" };
        let limit = group.folder.join(file);
        if !limit.exists() {
            return Err("memory is not its business".to_owned());
        }
        fs::write(&limit, bytes.to_string()).map_err(|error| format!("{file}: {error}"))?;
        // What lies in swap is no longer counted: none of it may.
        let _ = fs::write(group.folder.join("memory.swap.max"), "0");
        let procs = group.folder.join("cgroup.procs");
        fs::OpenOptions::new().write(true).open(procs).map_err(|error| format!("cgroup.procs: {error}"))?;
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        eprintln!("{} could not be removed", self.folder.display());
    }
}
