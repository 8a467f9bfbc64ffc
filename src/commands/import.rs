//! `import optimiser`: what the GoodWe price optimiser kept, into the store and the ledger of a wattlog that does not run.
//!
//! Exit code 0 if all that was read is stored and nothing differs, 65 if something was refused or differs (the report says
//! what; the rest is stored), 75 if a process has the store open.

use super::{print, print_json};
use crate::cli::{Import, OptimiserArgs};
use crate::clock::SystemClock;
use crate::config::{self, Loaded, Surroundings};
use crate::databases::{self, Databases};
use crate::failure::{Failure, Kind, chain};
use crate::import::settings::Settings;
use crate::import::{self, Files, Home, ImportReport, Mode, Plan, Removal, RemovalReport, Stores};
use crate::{files, logging, memory, serve};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use wattlog_engine::Durability;
use wattlog_model::Clock;

pub(crate) fn run(source: &Import) -> Result<(), Failure> {
    let Import::Optimiser(arguments) = source;
    if arguments.remove {
        return remove(arguments);
    }
    let scanned = match &arguments.folder {
        Some(folder) => Some(Plan::scan(folder, arguments.db.as_deref())?),
        None => None,
    };
    let serial = scanned.as_ref().and_then(|(_, tree)| import::serial_of(tree));
    let device = import::device_name(serial.as_deref(), arguments.device.as_deref());
    let settings = match &arguments.config {
        Some(file) => Some(settings(file, &device, &arguments.location)?),
        None => None,
    };
    write_configuration(arguments, settings.as_ref())?;
    let Some((folder, tree)) = scanned else { return configuration_alone(arguments, settings.as_ref()) };
    let home = Home::new(serial, arguments.device.as_deref(), &arguments.location, settings.as_ref())?;
    let files = if arguments.again { Files::All } else { Files::NewOnes };
    let plan = Plan { folder, tree, home, settings, files };
    let runtime = serve::runtime()?;
    let report = runtime.block_on(import(arguments, &plan));
    runtime.shutdown_background();
    tell(arguments, &plan, report?)
}

fn settings(file: &Path, device: &str, location: &str) -> Result<Settings, Failure> {
    let text =
        files::read_text(file).map_err(|error| Failure::io(format!("read {}", file.display()), &error))?;
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    Settings::read(&text, &name, device, location)
        .map_err(|error| Failure::new(Kind::Data, format!("{}: {error}", file.display())))
}

/// The configuration, if a file was named for it: before an import that may take long.
fn write_configuration(arguments: &OptimiserArgs, settings: Option<&Settings>) -> Result<(), Failure> {
    let (Some(path), Some(settings)) = (&arguments.config_out, settings) else { return Ok(()) };
    let failed = |error: std::io::Error| {
        Failure::new(Kind::CannotCreate, format!("create {}: {error}", path.display()))
    };
    let mut file = files::create_new(path).map_err(failed)?;
    file.write_all(settings.converted().yaml.as_bytes()).map_err(failed)
}

/// Only the configuration was asked for: no store is opened or made.
fn configuration_alone(arguments: &OptimiserArgs, settings: Option<&Settings>) -> Result<(), Failure> {
    let Some(settings) = settings else { return Ok(()) };
    match (arguments.json, &arguments.config_out) {
        (true, _) => print_json(&json!({ "configuration": settings.converted() })),
        (false, None) => print(&settings.converted().yaml),
        (false, Some(path)) => print(&format!("{} made", path.display())),
    }
}

async fn import(arguments: &OptimiserArgs, plan: &Plan) -> Result<ImportReport, Failure> {
    if arguments.dry_run {
        return import::run(plan, None, Mode::Store).await;
    }
    let stores = open(arguments, Access::Write).await?;
    let mode = if arguments.validate { Mode::StoreAndValidate } else { Mode::Store };
    let outcome = import::run(plan, Some(&stores), mode).await;
    let closed = close(stores).await;
    let report = outcome?;
    closed?;
    Ok(report)
}

/// Exit code 0 also if there was nothing to remove, 65 if a part of the store cannot be read.
fn remove(arguments: &OptimiserArgs) -> Result<(), Failure> {
    let runtime = serve::runtime()?;
    let report: Result<RemovalReport, Failure> = runtime.block_on(async {
        let (access, removal) = if arguments.dry_run {
            (Access::Look, Removal::Pretended)
        } else {
            (Access::Write, Removal::Done)
        };
        let stores = open(arguments, access).await?;
        let outcome = import::remove(&stores, removal).await;
        let closed = close(stores).await;
        let report = outcome?;
        closed?;
        Ok(report)
    });
    runtime.shutdown_background();
    let report = report?;
    if arguments.json {
        print_json(&json!(report))?;
    } else {
        print(&report.to_text())?;
    }
    if report.is_whole() { Ok(()) } else { Err(Failure::silent(Kind::Data)) }
}

async fn close(stores: Stores) -> Result<(), Failure> {
    let Stores { engine, ledger, .. } = stores;
    ledger.close().await;
    let closed = tokio::task::spawn_blocking(move || engine.close()).await;
    closed
        .map_err(|error| Failure::from_error(Kind::General, &error))?
        .map_err(|error| Failure::new(Kind::Io, format!("close the store: {error}")))
}

/// Every store has it from its first opening on.
const FOLDER_OF_A_STORE: &str = "manifest";

/// What is done with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// It is made if it is not there, with its databases.
    Write,
    /// It must be there.
    Look,
}

/// The store and the ledger, as `serve` would open them; the database answers no write before it is durable.
async fn open(arguments: &OptimiserArgs, access: Access) -> Result<Stores, Failure> {
    let surroundings = Surroundings::of_process(None);
    let Loaded { mut config, .. } =
        config::load(&surroundings).map_err(|error| Failure::new(Kind::Config, error.to_string()))?;
    config.log.level = "warn".to_owned();
    logging::start(&config.log).map_err(|message| Failure::new(Kind::Config, message))?;
    let config = memory::fit(&config).config;
    let folder = arguments.data.clone().or_else(|| config.engine.data.clone());
    let folder = folder.unwrap_or_else(|| surroundings.data_folder());
    if arguments.remove && !folder.join(FOLDER_OF_A_STORE).is_dir() {
        return Err(Failure::new(Kind::Usage, format!("{}: no store is here", folder.display())));
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let engine = serve::open_store(&config, &folder, clock.clone()).await.map_err(|failure| {
        if !failure.is_busy() {
            return failure;
        }
        let hint = "an import needs the store for itself: stop wattlog, import, start it again";
        Failure::new(Kind::Busy, format!("{failure}; {hint}"))
    })?;
    let database = config.server.default_database.clone();
    if access == Access::Write
        && !databases::settle(&engine, &Arc::new(Databases::of(&config, &database))).await
    {
        let told = "databases and their retention could not be made as configured: look at the disk";
        return Err(Failure::new(Kind::Io, told));
    }
    if access == Access::Write {
        // `serve` tells the database its configured durability again when it starts.
        engine.set_durability(&database, None, Durability::Always).map_err(|error| {
            Failure::new(Kind::Io, format!("set the durability of {database}: {}", chain(&error)))
        })?;
    }
    let ledger = serve::open_ledger(&config, &folder, clock.clone())?;
    ledger
        .ready()
        .await
        .map_err(|error| Failure::new(Kind::Unavailable, format!("open the ledger: {}", chain(&error))))?;
    Ok(Stores { engine, database, ledger, clock })
}

fn tell(arguments: &OptimiserArgs, plan: &Plan, report: ImportReport) -> Result<(), Failure> {
    let configuration = plan.settings.as_ref().map(Settings::converted);
    if arguments.json {
        let mut tree =
            serde_json::to_value(&report).map_err(|error| Failure::new(Kind::General, error.to_string()))?;
        if let Some(configuration) = configuration {
            tree["configuration"] = json!(configuration);
        }
        print_json(&tree)?;
    } else {
        match configuration {
            Some(configuration) if arguments.config_out.is_none() => {
                print(&configuration.yaml)?;
                eprint!("{}", report.to_text());
            }
            _ => print(&report.to_text())?,
        }
    }
    if report.is_clean() { Ok(()) } else { Err(Failure::silent(Kind::Data)) }
}
