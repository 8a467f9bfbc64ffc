//! `serve`: the appliance until TERM or INT. Configuration is complete before the first socket or file opens.

use crate::cli::ServeArgs;
use crate::clock::SystemClock;
use crate::config::{self, Config, Loaded, Surroundings};
use crate::failure::{Failure, Kind};
use crate::logging::{self, Reload};
use crate::serve::{self, Appliance, Front};
use crate::signals::{Request, Signals};
use crate::{memory, notify, watchdog};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;

pub(crate) fn run(arguments: &ServeArgs) -> Result<(), Failure> {
    let surroundings = Surroundings::of_process(arguments.config.path.clone());
    let Loaded { config, file, .. } = load(&surroundings, arguments)?;
    let reload = logging::start(&config.log).map_err(|message| Failure::new(Kind::Config, message))?;
    let folder = config.engine.data.clone().unwrap_or_else(|| surroundings.data_folder());
    memory::begin_frugally(&config);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = file.as_deref().map(|file| file.display().to_string()),
        "starting"
    );
    let runtime = serve::runtime()?;
    let outcome = runtime.block_on(serve(config, folder, &surroundings, arguments, &reload));
    // All that must end in order has ended; a store that is still being opened is left as it is.
    runtime.shutdown_background();
    outcome
}

/// The configuration with the flags over it.
fn load(surroundings: &Surroundings, arguments: &ServeArgs) -> Result<Loaded, Failure> {
    let refused = |message: String| Failure::new(Kind::Config, message);
    let mut loaded = config::load(surroundings).map_err(|error| refused(error.to_string()))?;
    let config = &mut loaded.config;
    config.server.listen = arguments.listen.unwrap_or(config.server.listen);
    config.engine.data = arguments.data.clone().or_else(|| config.engine.data.take());
    if let Some(level) = &arguments.log_level {
        config.log.level.clone_from(level);
    }
    config.check().map_err(|error| refused(error.to_string()))?;
    if !config.server.listen.ip().is_loopback() && !arguments.insecure {
        return Err(Failure::new(
            Kind::Permission,
            format!(
                "{} can be reached by others and there is no authentication yet: listen on 127.0.0.1 behind a reverse \
                 proxy, or say --insecure",
                config.server.listen
            ),
        ));
    }
    Ok(loaded)
}

async fn serve(
    config: Config,
    folder: PathBuf,
    surroundings: &Surroundings,
    arguments: &ServeArgs,
    reload: &Reload,
) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(|error| Failure::io("watch for signals", &error))?;
    let address = config.server.listen;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let kind = if error.kind() == std::io::ErrorKind::PermissionDenied {
            Kind::Permission
        } else {
            Kind::Unavailable
        };
        Failure::new(kind, format!("listen on {address}: {error}"))
    })?;
    let clock = Arc::new(SystemClock::new());
    let fitted = memory::fit(&config).config;
    let front = Front::start(&fitted, listener, clock.clone())?;
    let engine = tokio::select! {
        opened = serve::open_store(&fitted, &folder, clock.clone()) => opened?,
        () = signals.stop() => {
            // Opening changes nothing that the next start does not find or do again.
            notify::stopping();
            front.stop().await;
            tracing::info!("stopped before the store was open");
            return Ok(());
        }
    };
    let ledger = serve::open_ledger(&fitted, &folder, clock.clone())?;
    let mut appliance = Appliance::start(front, config, engine, ledger, clock).await?;
    let watchdog = watchdog::start(&appliance);
    notify::ready(&appliance.status());
    loop {
        match signals.next().await {
            Request::Stop => break,
            Request::Reload => {
                notify::reloading();
                match load(surroundings, arguments) {
                    Ok(loaded) => appliance.reload(loaded.config, reload).await,
                    Err(error) => {
                        tracing::error!(%error, "the configuration is refused, the former one stays");
                    }
                }
                notify::ready(&appliance.status());
            }
        }
    }
    tracing::info!("stopping");
    notify::stopping();
    signals.leave_at_once_on_interrupt();
    if let Some(watchdog) = watchdog {
        watchdog.abort();
    }
    appliance.stop().await?;
    tracing::info!("stopped");
    Ok(())
}
