//! `/openapi.json`, generated from the handlers.

use super::health::json_response;
use super::records::{configurations, routes, sessions as charging};
use super::{
    admin, alerts, changes, delete, energy, energy_data, export, feeds, front_page, health, metrics, prices,
    quality, query, retention, schema, scorecard, status, storage, trends, write,
};
use axum::body::Body;
use axum::http::{Response, StatusCode};
use utoipa::OpenApi;

/// Every route with its parameters and answers.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "wattlog",
        description = "Home-energy historian: InfluxDB writes in, downsampled answers out"
    ),
    paths(
        write::write_influx1,
        write::write_influx2,
        delete::delete_influx2,
        delete::delete,
        energy_data::store,
        energy_data::list,
        query::query,
        query::last,
        query::slow,
        export::export,
        changes::changes,
        energy::energy,
        quality::quality,
        trends::trends,
        prices::prices,
        schema::databases,
        schema::measurements,
        schema::measurement,
        schema::tag_values,
        schema::describe_field,
        routes::sessions::all,
        routes::sessions::single,
        routes::sessions::make,
        routes::sessions::exchange,
        routes::sessions::drop_it,
        routes::sessions::changes,
        routes::decisions::all,
        routes::decisions::single,
        routes::decisions::make,
        routes::decisions::exchange,
        routes::decisions::drop_it,
        routes::decisions::changes,
        routes::preferences::all,
        routes::preferences::single,
        routes::preferences::make,
        routes::preferences::exchange,
        routes::preferences::drop_it,
        routes::preferences::changes,
        routes::reports::all,
        routes::reports::single,
        routes::reports::make,
        routes::reports::exchange,
        routes::reports::drop_it,
        routes::reports::changes,
        routes::tariffs::all,
        routes::tariffs::single,
        routes::tariffs::make,
        routes::tariffs::exchange,
        routes::tariffs::drop_it,
        routes::tariffs::changes,
        routes::annotations::all,
        routes::annotations::single,
        routes::annotations::make,
        routes::annotations::exchange,
        routes::annotations::drop_it,
        routes::annotations::changes,
        routes::devices::single,
        routes::devices::make,
        routes::devices::exchange,
        routes::devices::drop_it,
        routes::devices::changes,
        routes::alert_rules::all,
        routes::alert_rules::single,
        routes::alert_rules::make,
        routes::alert_rules::exchange,
        routes::alert_rules::drop_it,
        routes::alert_rules::changes,
        routes::alert_silences::all,
        routes::alert_silences::single,
        routes::alert_silences::make,
        routes::alert_silences::exchange,
        routes::alert_silences::drop_it,
        routes::alert_silences::changes,
        routes::alert_events::all,
        routes::alert_events::single,
        routes::alert_deliveries::all,
        routes::alert_deliveries::single,
        alerts::status,
        alerts::dead_letters,
        alerts::retry,
        routes::import_runs::all,
        routes::import_runs::single,
        configurations::configurations,
        configurations::configuration,
        configurations::save,
        configurations::revisions,
        configurations::history,
        configurations::difference,
        configurations::activate,
        charging::charging_sessions,
        charging::store_charging_session,
        storage::storage,
        storage::health,
        scorecard::scorecard,
        status::devices,
        feeds::feeds,
        status::task,
        retention::list,
        retention::set,
        retention::confirm_clock,
        admin::seal,
        admin::compact,
        admin::scrub,
        health::ping,
        health::health,
        health::ready,
        metrics::metrics,
        front_page::front_page,
        openapi,
    ),
    components(schemas(crate::Task, crate::TaskState))
)]
pub(crate) struct Api;

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "status", responses((status = 200, description = "OpenAPI 3.1")))]
pub(crate) async fn openapi() -> Response<Body> {
    // Built once and kept would hold 30 KB for a route that is asked once a month.
    match Api::openapi().to_json() {
        Ok(text) => json_response(StatusCode::OK, text),
        Err(error) => {
            let error =
                crate::error::ApiError::internal(format!("the description cannot be written: {error}"));
            axum::response::IntoResponse::into_response(error)
        }
    }
}
