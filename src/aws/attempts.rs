//! Tells a [`Call`] which of its attempts went without an answer, begins none that was given up, and ends those that nobody is
//! there to answer.

use std::sync::Arc;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeSerializationInterceptorContextRef, BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, Metadata};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};

use super::http::{is_name_of_read, never_left, stranger, was_answered};
use crate::run::call::Call;

/// Watches the attempts of every client.
#[derive(Debug)]
pub(super) struct Attempts;

/// That an attempt is on its way.
#[derive(Debug)]
struct Sent(bool);

/// How many attempts of a call met nobody, at a host that never took a connection.
#[derive(Debug, Default)]
struct Unmet(u32, String);

impl Storable for Unmet {
    type Storer = StoreReplace<Self>;
}

/// So many attempts meet nobody before a call ends, 16 s after the first on average and 32 s at most: a hiccup of the network is waited
/// out, a wrong address or a dead DNS is told. Once a host took a connection it is there, and the retries that are configured count.
const MAX_UNMET: u32 = 8;

/// Gives up a call whose endpoint isn't there.
#[derive(Debug)]
pub(super) struct Presence;

#[dyn_dispatch_hint]
impl Intercept for Presence {
    fn name(&self) -> &'static str {
        "whether the endpoint is there"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        match cfg.load::<Unmet>() {
            Some(Unmet(MAX_UNMET.., why)) => Err(format!(
                "{why}; {MAX_UNMET} attempts came to nothing and none before ever did: check the region, the network, the \
                 proxy, custom_ca_bundle where TLS failed, and endpoint_url and endpoints where they are set"
            )
            .into()),
            _ => Ok(()),
        }
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let error = context.output_or_error().and_then(Result::err).and_then(|error| error.as_connector_error());
        if let Some(why) = error.and_then(stranger) {
            let before = cfg.load::<Unmet>().map_or(0, |unmet| unmet.0);
            cfg.interceptor_state().store_put(Unmet(before + 1, why));
        }
        Ok(())
    }
}

/// How many attempts of a call were met with silence.
#[derive(Debug, Default)]
struct Silent(u32);

impl Storable for Silent {
    type Storer = StoreReplace<Self>;
}

/// A read outside a rollout is given up after so many attempts without an answer: AWS answers within a second or two, and
/// whoever waits for a plan has nothing to lose. Throttled calls are answered.
const MAX_SILENT_READS: u32 = 3;

impl Storable for Sent {
    type Storer = StoreReplace<Self>;
}

/// The call of an operation that changes something.
fn changing(cfg: &ConfigBag) -> Option<Arc<Call>> {
    Call::current().filter(|_| cfg.load::<Metadata>().is_some() && !is_read(cfg))
}

fn is_read(cfg: &ConfigBag) -> bool {
    cfg.load::<Metadata>().is_some_and(|metadata| is_name_of_read(metadata.name()))
}

/// Whether an answer is one of whoever stands between: what the call itself came to is not in it.
fn is_of_a_gateway(response: &HttpResponse) -> bool {
    matches!(response.status().as_u16(), 502 | 504)
}

/// Whether the stop signal had come before a call began.
#[derive(Debug)]
struct BeganStopped(bool);

impl Storable for BeganStopped {
    type Storer = StoreReplace<Self>;
}

/// Whether the stop signal has come.
fn is_stopped(call: &Call) -> bool {
    call.stop().is_some_and(crate::cancel::Cancel::is_cancelled)
}

#[dyn_dispatch_hint]
impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "attempts of a call"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        cfg.interceptor_state().store_put(BeganStopped(Call::current().is_some_and(|call| is_stopped(&call))));
        Ok(())
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        cfg.interceptor_state().store_put(Sent(false));
        match Call::current() {
            Some(call) if call.is_given_up() => Err("the run was stopped before it was sent again".into()),
            Some(call) if is_stopped(&call) && cfg.load::<BeganStopped>().is_some_and(|began| !began.0) => {
                Err("the run was stopped before it was sent again".into())
            }
            None if cfg.load::<Silent>().is_some_and(|silent| silent.0 >= MAX_SILENT_READS) && is_read(cfg) => {
                Err(format!("no answer came to {MAX_SILENT_READS} attempts").into())
            }
            _ => Ok(()),
        }
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        cfg.interceptor_state().store_put(Sent(true));
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let sent = cfg.load::<Sent>().is_some_and(|sent| sent.0);
        let broken = context.output_or_error().and_then(Result::err).and_then(|error| error.as_connector_error());
        let is_timeout = context.output_or_error().and_then(Result::err).is_some_and(|error| error.is_timeout_error())
            || broken.is_some_and(|error| error.is_timeout());
        if is_timeout {
            let before = cfg.load::<Silent>().map_or(0, |silent| silent.0);
            cfg.interceptor_state().store_put(Silent(before + 1));
        }
        if let Some(call) = changing(cfg)
            && sent
            && context.response().is_none_or(is_of_a_gateway)
            && !broken.is_some_and(|error| never_left(error) || was_answered(error))
        {
            call.note_unanswered(broken.is_none_or(|error| error.is_timeout()));
        }
        Ok(())
    }
}
