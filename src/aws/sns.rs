//! Messages to topics.

use std::sync::Arc;

use async_trait::async_trait;

use super::connection::Connection;
use super::error::call_error;
use crate::run::ports::PortError;
use crate::run::rollout::ports::Notifier;

pub(super) struct Sns {
    connection: Arc<Connection>,
}

impl Sns {
    pub(super) fn new(connection: Arc<Connection>) -> Sns {
        Sns { connection }
    }
}

#[async_trait]
impl Notifier for Sns {
    async fn publish(&self, topic: &str, subject: &str, message: &str) -> Result<(), PortError> {
        let call = self.connection.sns().await?.publish().topic_arn(topic).subject(subject).message(message);
        // A topic that keeps an order wants to know of which messages; each is of one rollout.
        let call = if topic.ends_with(".fifo") {
            let id = super::digest(message);
            call.message_group_id("bluegreen").message_deduplication_id(id)
        } else {
            call
        };
        // SNS takes a message in the region of the topic only.
        let mut there = aws_sdk_sns::config::Builder::new();
        if let Some(region) = super::region_of(topic) {
            there = there.region(region);
        }
        call.customize()
            .config_override(there)
            .send()
            .await
            .map(drop)
            .map_err(|error| call_error("sns", "Publish", &error))
    }
}
