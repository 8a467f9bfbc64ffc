//! What a folder of the optimiser holds, without putting it anywhere: the report as JSON, refusals on standard error.
//!
//! `cargo run -p wattlog-migrate --example report -- FOLDER [STORE]`

use std::path::PathBuf;
use std::process::ExitCode;
use wattlog_migrate::{
    Context, Limits, Options, Out, OutError, Record, Refusal, Tree, find_device, read_file,
};

/// Counts records and tells refusals.
struct Told;

impl Out for Told {
    fn record(&mut self, _: Record) -> Result<(), OutError> {
        Ok(())
    }

    fn refusal(&mut self, refusal: Refusal) -> Result<(), OutError> {
        eprintln!("refused: {}: {}", refusal.position, refusal.reason);
        Ok(())
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let Some(folder) = arguments.next() else {
        eprintln!("name the folder of the optimiser, and its store if that lies elsewhere");
        return ExitCode::from(2);
    };
    match report(&folder, arguments.next().as_deref()) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let causes =
                std::iter::successors(Some(&*error as &dyn std::error::Error), |error| error.source());
            let chain: Vec<String> = causes.map(ToString::to_string).collect();
            eprintln!("{}", chain.join(": "));
            ExitCode::FAILURE
        }
    }
}

fn report(folder: &std::path::Path, store: Option<&std::path::Path>) -> Result<String, OutError> {
    let limits = Limits::default();
    let tree = Tree::scan(folder, store, &limits)?;
    let device = find_device(&tree, &limits).unwrap_or_else(|| "inverter".to_owned());
    let options = Options::new(&device);
    for skipped in &tree.skipped {
        eprintln!("skipped: {}: {}", skipped.name, skipped.reason);
    }
    let mut context = Context::new(options);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for file in &tree.files {
        runtime.block_on(read_file(file, &mut context, &mut Told))?;
    }
    Ok(serde_json::to_string_pretty(&context.into_report())?)
}
