//! Ids of topics: a topic that is deleted and made anew has another one.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

/// Time beyond a request's timeout for its answer to come through librdkafka.
const SLACK: Duration = Duration::from_millis(500);

/// Ids of topics by name. A topic that does not exist has none, nor has one of brokers that do not
/// know ids.
///
/// # Errors
/// No broker answers within `patience`, or one refuses.
pub(crate) fn topic_ids<C: rdkafka::ClientContext>(
    client: &rdkafka::client::Client<C>,
    topics: &[&str],
    patience: Duration,
) -> Result<BTreeMap<Arc<str>, String>, ClientError> {
    let names: Result<Vec<CString>, _> = topics.iter().map(|name| CString::new(*name)).collect();
    let names = names?;
    let milliseconds = patience.as_millis() as i32;
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: the client and the names live until the end of the call, each object is destroyed
    // once and after its last use, and librdkafka allows null for the text of an error. The crate
    // has no safe form of this request.
    #[allow(unsafe_code)]
    unsafe {
        let queue = sys::rd_kafka_queue_new(client.native_ptr());
        let wanted =
            sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let options = sys::rd_kafka_AdminOptions_new(
            client.native_ptr(),
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        sys::rd_kafka_AdminOptions_set_request_timeout(
            options,
            milliseconds,
            std::ptr::null_mut(),
            0,
        );
        sys::rd_kafka_DescribeTopics(client.native_ptr(), wanted, options, queue);
        let event = sys::rd_kafka_queue_poll(queue, milliseconds + SLACK.as_millis() as i32);
        let found = match event.is_null() {
            true => Err(ClientError::MetadataFetch(
                RDKafkaErrorCode::OperationTimedOut,
            )),
            false => described(event),
        };
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_TopicCollection_destroy(wanted);
        sys::rd_kafka_queue_destroy(queue);
        found
    }
}

/// The ids in an answer.
///
/// # Safety
/// `event` is the answer to a request for descriptions of topics.
#[allow(unsafe_code)]
unsafe fn described(
    event: *mut sys::rd_kafka_event_t,
) -> Result<BTreeMap<Arc<str>, String>, ClientError> {
    let mut ids = BTreeMap::new();
    // SAFETY: everything that is read belongs to the event, which the caller keeps.
    unsafe {
        let error = sys::rd_kafka_event_error(event);
        if error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(ClientError::MetadataFetch(error.into()));
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        let mut count = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        for at in 0..count {
            let topic = *topics.add(at);
            let error = sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(topic));
            let id = sys::rd_kafka_TopicDescription_topic_id(topic);
            // Brokers that do not know ids answer with zeros.
            let is_known = !id.is_null()
                && (sys::rd_kafka_Uuid_most_significant_bits(id) != 0
                    || sys::rd_kafka_Uuid_least_significant_bits(id) != 0);
            if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && is_known {
                let text = |text| CStr::from_ptr(text).to_string_lossy();
                let name = text(sys::rd_kafka_TopicDescription_name(topic));
                let id = text(sys::rd_kafka_Uuid_base64str(id));
                ids.insert(name.into(), id.into_owned());
            }
        }
    }
    Ok(ids)
}
