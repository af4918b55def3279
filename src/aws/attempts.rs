//! Tells a [`Call`] which of its attempts went without an answer, and begins none that was given up.

use std::sync::Arc;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, Metadata};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};

use super::http::{never_left, was_answered};
use crate::run::call::Call;

/// Watches the attempts of every client.
#[derive(Debug)]
pub(super) struct Attempts;

/// That an attempt is on its way.
#[derive(Debug)]
struct Sent(bool);

impl Storable for Sent {
    type Storer = StoreReplace<Self>;
}

/// The call of an operation that changes something.
fn changing(cfg: &ConfigBag) -> Option<Arc<Call>> {
    let reads = ["Describe", "Get", "List"];
    let name = cfg.load::<Metadata>().map(Metadata::name)?;
    Call::current().filter(|_| !reads.iter().any(|read| name.starts_with(read)))
}

/// Whether an answer is one of whoever stands between: what the call itself came to is not in it.
fn is_of_a_gateway(response: &HttpResponse) -> bool {
    matches!(response.status().as_u16(), 502 | 504)
}

#[dyn_dispatch_hint]
impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "attempts of a call"
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
