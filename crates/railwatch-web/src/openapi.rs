//! The list of endpoints, and the OpenAPI description that is made from it. Path, parameters and answer are given once,
//! where the handler is named, so that the description cannot say anything else than the server does.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::problem::ProblemBody;

/// Endpoints with their state `S`, and their descriptions.
#[derive(Debug)]
pub struct Endpoints<S> {
    router: Router<S>,
    operations: Vec<Operation>,
}

/// The description of one endpoint.
#[derive(Debug, Clone)]
pub struct Operation {
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    query: Option<fn() -> Value>,
    body: Option<fn() -> Value>,
    answer: Reply,
}

type Make = fn(&mut SchemaGenerator) -> Value;

#[derive(Debug, Clone, Copy)]
enum Reply {
    Json(Make),
    Text(&'static str),
}

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

/// What callers send, written out in place: what has a default may be left out.
fn sent<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().for_deserialize().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// A reader of something: `GET`.
pub fn get<A: JsonSchema>(path: &'static str, summary: &'static str) -> Operation {
    Operation { method: "get", path, summary, query: None, body: None, answer: Reply::Json(schema_of::<A>) }
}

/// A reader of something that is not JSON.
pub fn get_text(path: &'static str, summary: &'static str, media: &'static str) -> Operation {
    Operation { method: "get", path, summary, query: None, body: None, answer: Reply::Text(media) }
}

/// A change: `POST` with a body `B`.
pub fn post<B: JsonSchema, A: JsonSchema>(path: &'static str, summary: &'static str) -> Operation {
    Operation {
        method: "post",
        path,
        summary,
        query: None,
        body: Some(sent::<B>),
        answer: Reply::Json(schema_of::<A>),
    }
}

impl Operation {
    /// It takes the query parameters `Q`.
    #[must_use]
    pub fn query<Q: JsonSchema>(mut self) -> Self {
        self.query = Some(sent::<Q>);
        self
    }

    fn describe(&self, generator: &mut SchemaGenerator) -> Value {
        let mut parameters: Vec<Value> = path_names(self.path)
            .map(|name| {
                json!({ "name": name, "in": "path", "required": true,
                        "schema": { "type": "string", "minLength": 1, "maxLength": 200 } })
            })
            .collect();
        if let Some(query) = self.query {
            parameters.extend(query_parameters(&query()));
        }
        if self.method == "post" {
            parameters.push(json!({
                "name": "X-Railwatch-By", "in": "header", "required": true,
                "description": "Who does this, for the audit; a token's own name takes its place.",
                "schema": { "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,99}$" }
            }));
        }
        let content = match self.answer {
            Reply::Json(make) => json!({ "application/json": { "schema": make(generator) } }),
            Reply::Text(media) => json!({ media: { "schema": { "type": "string" } } }),
        };
        let problem = json!({ "description": "What is wrong, and what to do.",
            "content": { "application/problem+json": { "schema": generator.subschema_for::<ProblemBody>() } } });
        let mut operation = json!({
            "summary": self.summary,
            "operationId": self.id(),
            "parameters": parameters,
            "responses": { "200": { "description": "The answer.", "content": content }, "default": problem },
        });
        if self.method == "get" {
            operation["responses"]["304"] =
                json!({ "description": "Nothing changed since the ETag that was sent." });
        }
        if let Some(body) = self.body {
            let schema = body();
            operation["requestBody"] =
                json!({ "required": true, "content": { "application/json": { "schema": schema } } });
        }
        operation
    }

    /// `get /v1/agents/{agent}` is `get_agents_agent`.
    fn id(&self) -> String {
        let words =
            self.path.trim_start_matches("/v1").split(['/', '{', '}', '.']).filter(|word| !word.is_empty());
        [self.method].into_iter().chain(words).collect::<Vec<_>>().join("_")
    }
}

fn path_names(path: &str) -> impl Iterator<Item = &str> {
    path.split('{').skip(1).filter_map(|part| part.split_once('}')).map(|(name, _)| name)
}

/// The properties of an object as query parameters.
fn query_parameters(definition: &Value) -> Vec<Value> {
    let required = definition["required"].as_array().cloned().unwrap_or_default();
    let properties = definition["properties"].as_object().cloned().unwrap_or_default();
    let parameter = |(name, mut schema): (String, Value)| {
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        // A query parameter that is absent is null; one that is present never is.
        let types = schema.get_mut("type").and_then(Value::as_array_mut);
        if let Some(single) = types.and_then(|types| types.iter().find(|name| *name != "null").cloned()) {
            schema["type"] = single;
        }
        if let Some(choices) = schema.get_mut("enum").and_then(Value::as_array_mut) {
            choices.retain(|choice| !choice.is_null());
        }
        let any = schema.get("anyOf").and_then(Value::as_array);
        if let Some(single) = any.and_then(|any| any.iter().find(|part| part["type"] != "null").cloned()) {
            schema = single;
        }
        json!({ "name": name, "in": "query", "required": required.contains(&Value::from(name.as_str())),
                "description": description, "schema": schema })
    };
    properties.into_iter().map(parameter).collect()
}

impl<S: Clone + Send + Sync + 'static> Default for Endpoints<S> {
    fn default() -> Self {
        Self { router: Router::new(), operations: Vec::new() }
    }
}

impl<S: Clone + Send + Sync + 'static> Endpoints<S> {
    /// Adds an endpoint.
    #[must_use]
    pub fn add<H: Handler<T, S>, T: 'static>(mut self, operation: Operation, handler: H) -> Self {
        let filter = if operation.method == "get" { MethodFilter::GET } else { MethodFilter::POST };
        self.router = self.router.route(operation.path, on(filter, handler));
        self.operations.push(operation);
        self
    }

    /// Adds the endpoints of others.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.operations.extend(other.operations);
        self
    }

    /// Gives the handlers their state.
    pub fn with_state(self, state: S) -> Endpoints<()> {
        Endpoints { router: self.router.with_state(state), operations: self.operations }
    }
}

impl Endpoints<()> {
    /// The routes, and the OpenAPI document that describes them.
    pub(crate) fn finish(self) -> (Router, String) {
        let document = describe(&self.operations);
        (self.router, document)
    }
}

fn describe(operations: &[Operation]) -> String {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.for_serialize().into_generator();
    let mut paths = Map::new();
    for operation in operations {
        let described = operation.describe(&mut generator);
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = described;
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "railwatch",
            "version": "1",
            "description": "Every cent that agents spend, on every rail. Amounts are decimal texts in dollars; rates, \
                shares and scores are numbers. Errors are problem+json. Lists are read page by page with `cursor`.",
        },
        "paths": paths,
        "components": {
            "schemas": generator.definitions(),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
        "security": [{}, { "token": [] }],
    });
    document.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Query {
        limit: Option<u32>,
        sort: Option<Order>,
        plain: String,
    }

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    enum Order {
        Up,
        Down,
    }

    #[test]
    fn parameters_are_never_null() {
        let document = describe(&[get::<String>("/v1/things/{thing}", "Things.").query::<Query>()]);
        let document: Value = serde_json::from_str(&document).unwrap();
        let operation = &document["paths"]["/v1/things/{thing}"]["get"];
        assert_eq!(operation["operationId"], "get_things_thing");
        let parameters = operation["parameters"].as_array().unwrap();
        let of = |name: &str| parameters.iter().find(|parameter| parameter["name"] == name).unwrap();
        assert_eq!(of("thing")["in"], "path");
        assert_eq!(of("limit")["schema"]["type"], "integer");
        assert_eq!(of("limit")["required"], false);
        assert_eq!(of("plain")["required"], true);
        assert_eq!(of("sort")["schema"]["enum"], json!(["Up", "Down"]));
        assert!(parameters.iter().all(|parameter| parameter["schema"].get("type") != Some(&Value::Null)));
    }
}
