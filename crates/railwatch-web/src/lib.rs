//! The live view: the HTTP API, its OpenAPI description, the live stream and the dashboard.
//!
//! It reads a published view of the fleet that the core sends in small pieces ([`Update`]), and the store; it never
//! makes the engine wait. What people do goes to the program around it through [`Host`].
//!
//! Invariant: every path below `/v1` passes the guard, which knows the caller and what it may do.

mod access;
mod api;
mod board;
mod fleet;
mod guard;
mod limit;
mod list;
mod live;
mod openapi;
mod page;
mod problem;
mod rails;
mod row;
mod scan;
mod site;

pub use access::{Access, AccessSettings, BY, Caller, Role, Token, hash, new_token};
pub use api::router;
pub use board::{Board, Update, moved};
pub use list::{PAGE_MAX, Page};
pub use openapi::{Endpoints, Operation, get, get_text, post};
pub use problem::{Answer, Ask, Named, Problem, Told};
pub use row::{Advice, AgentBrief, Budget, Gauge, Row};
pub use scan::PaymentBrief;
pub use site::{AgentNow, Host, Site, SiteOptions};
