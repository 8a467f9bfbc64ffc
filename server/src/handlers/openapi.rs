//! `/openapi.json`, generated from the handlers.

use super::health::json_response;
use super::{
    admin, changes, delete, energy_data, export, front_page, health, metrics, query, retention, schema,
    status, write,
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
        schema::databases,
        schema::measurements,
        schema::measurement,
        schema::tag_values,
        schema::describe_field,
        status::storage,
        status::devices,
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
