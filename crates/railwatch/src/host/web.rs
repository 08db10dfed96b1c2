//! What the live view may ask of the host.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use railwatch_engine::SubjectView;
use railwatch_model::{Alert, Seq, SmolStr, Subject, Timestamp};
use railwatch_web::{Access, AccessSettings, AgentNow, Answer, Host, Problem, Site, SiteOptions, Token};
use tokio_util::sync::CancellationToken;

use crate::config::{AccessToken, Config};
use crate::host::actions::Actions;

/// The live view of a host.
pub(crate) fn site(
    config: &Config,
    store_path: PathBuf,
    recovered_until: Seq,
    actions: &Actions,
    cancel: &CancellationToken,
) -> anyhow::Result<Arc<Site>> {
    let mut epoch = [0; 8];
    getrandom::fill(&mut epoch).context("the system gives no random numbers")?;
    Ok(Site::new(SiteOptions {
        host: Arc::new(Desk(actions.clone())),
        store_path,
        clock: actions.clock.clone(),
        access: Access::new(access(config)),
        review_above: config.score.review_threshold.0,
        recovered_until,
        cancel: cancel.clone(),
        epoch: hex::encode(epoch),
    }))
}

fn access(config: &Config) -> AccessSettings {
    let public_url = config.http.public_url.as_ref().map(|url| url.0.as_str());
    let host = public_url.and_then(|url| url.split_once("://")).map(|(_, rest)| {
        let authority = rest.split('/').next().unwrap_or_default();
        authority.rsplit_once(':').map_or(authority, |(name, _)| name).to_owned()
    });
    AccessSettings {
        tokens: tokens(config),
        hosts: host.into_iter().collect(),
        is_https: public_url.is_some_and(|url| url.starts_with("https://")),
    }
}

/// The tokens of a configuration.
pub(crate) fn tokens(config: &Config) -> Vec<Token> {
    let token = |token: &AccessToken| Token {
        name: SmolStr::new(&token.name),
        role: token.role,
        sha256: token.sha256.0,
    };
    config.http.tokens.iter().map(token).collect()
}

#[derive(Debug)]
struct Desk(Actions);

#[async_trait]
impl Host for Desk {
    async fn acknowledge(&self, by: SmolStr, alert: &str, note: Option<SmolStr>) -> Answer<Alert> {
        Ok(self.0.acknowledge(by, alert, note).await?)
    }

    async fn resolve(&self, by: SmolStr, alert: &str, note: Option<SmolStr>) -> Answer<Alert> {
        Ok(self.0.resolve(by, alert, note).await?)
    }

    async fn agent(&self, subject: Subject) -> Answer<Option<AgentNow>> {
        let view =
            self.0.core.look(move |engine| engine.view(&subject)).await.ok_or_else(Problem::stopping)?;
        Ok(view.map(agent_now))
    }

    async fn usual(&self, subject: Subject, times: Vec<Timestamp>) -> Answer<Vec<Option<f64>>> {
        let usual = self.0.core.look(move |engine| engine.usual_at(&subject, &times)).await;
        usual.ok_or_else(Problem::stopping)
    }
}

fn agent_now(view: SubjectView) -> AgentNow {
    let SubjectView { subject, name, team, first_at, last_at, totals, score, signals, .. } = view;
    AgentNow { subject, name, team, first_at, last_at, totals, score, signals }
}
