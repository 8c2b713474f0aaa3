//! The enrollment service: a stranger's one call.

use tonic::transport::Channel;

use super::{CALL_TIME_MAX, ask};
use crate::api::convert::Wire as _;
use crate::api::status::CallError;
use crate::api::{MESSAGE_BYTES_MAX, wire};
use crate::exchange::{Enrolled, EnrollmentRequest};

#[derive(Debug, Clone)]
pub struct EnrollClient(wire::enrollment_client::EnrollmentClient<Channel>);

impl EnrollClient {
    pub fn new(channel: Channel) -> Self {
        let client = wire::enrollment_client::EnrollmentClient::new(channel);
        Self(client.max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// E-TOKEN, whatever is wrong with the proof; E-CSR; E-BUSY, then with a time to come back.
    pub async fn enroll(&self, request: &EnrollmentRequest) -> Result<Enrolled, CallError> {
        let mut client = self.0.clone();
        ask(CALL_TIME_MAX, request.to_wire(), |request| async move { client.enroll(request).await }).await
    }
}
