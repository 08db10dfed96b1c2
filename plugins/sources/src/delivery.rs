//! Handing deliveries to the host: acknowledgements in flight, and the source's status on the way.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use railwatch_plugin::decode::Decoded;
use railwatch_plugin::source::{Cursor, Delivery, SourceContext, SourceError};

/// Deliveries that may wait for the disk at once. The host syncs one batch at a time; a few in flight keep it busy,
/// more would only be lost together.
const IN_FLIGHT_MAX: usize = 16;
/// What a delivery in hand may take once the source must stop.
const STOP_GRACE: Duration = Duration::from_secs(1);

type Durable = BoxFuture<'static, Result<Option<Cursor>, SourceError>>;

/// Submits deliveries in order and resolves their acknowledgements in order.
#[derive(Debug, Default)]
pub(crate) struct Pipeline {
    in_flight: FuturesOrdered<Durable>,
}

impl Pipeline {
    /// Hands a delivery over, waiting for room in the host and in the pipeline. `Closed` after a stop means that the
    /// delivery was not taken; it comes again after the next start.
    pub(crate) async fn submit(
        &mut self,
        cx: &SourceContext,
        decoded: Decoded,
        cursor: Option<Cursor>,
    ) -> Result<(), SourceError> {
        if decoded.is_empty() && cursor.is_none() {
            return Ok(());
        }
        note(cx, &decoded);
        let submit = async {
            while self.in_flight.len() >= IN_FLIGHT_MAX {
                self.next().await.transpose()?;
            }
            let ack = cx.intake.submit(Delivery { decoded, cursor: cursor.clone() }).await?;
            self.in_flight.push_back(Box::pin(async move { ack.durable().await.map(|()| cursor) }));
            Ok(())
        };
        let too_late = async {
            cx.cancel.cancelled().await;
            tokio::time::sleep(STOP_GRACE).await;
        };
        tokio::select! {
            biased;
            submitted = submit => submitted,
            () = too_late => Err(SourceError::Closed),
        }
    }

    /// The cursor of the oldest delivery, once it is durable; `None` if none is in flight.
    pub(crate) async fn next(&mut self) -> Option<Result<Option<Cursor>, SourceError>> {
        self.in_flight.next().await
    }

    /// True if nothing is in flight.
    pub(crate) fn is_empty(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Waits until everything is durable, or until the source must stop.
    pub(crate) async fn drain(&mut self, cx: &SourceContext) -> Result<(), SourceError> {
        loop {
            tokio::select! {
                biased;
                acked = self.next() => match acked {
                    Some(acked) => { acked?; }
                    None => return Ok(()),
                },
                () = cx.cancel.cancelled() => return Ok(()),
            }
        }
    }
}

/// Shows the newest message and event in the status.
pub(crate) fn note(cx: &SourceContext, decoded: &Decoded) {
    let now = cx.clock.now();
    let newest = decoded.payments.iter().map(|payment| payment.occurred_at).max();
    cx.status.update(|status| {
        status.last_message_at = Some(now);
        status.last_event_at = status.last_event_at.max(newest);
        status.lag_secs = newest.map(|newest| now.since(newest).as_secs()).or(status.lag_secs);
    });
}
