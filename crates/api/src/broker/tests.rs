use super::*;

#[test]
fn data_keeps_its_bytes_over_the_wire() {
    let line: PublishLine = serde_json::from_str(r#"{"data":{"a": 1.0,  "b":2e1}}"#).unwrap();
    assert_eq!(line.data.unwrap().get(), r#"{"a": 1.0,  "b":2e1}"#);
}

#[test]
fn a_condition_is_a_string_or_a_prefix() {
    let spec: SubscriptionSpec =
        serde_json::from_str(r#"{"filter":{"kind":"late","to":{"prefix":"JF"}}}"#).unwrap();
    assert_eq!(spec.filter["kind"], Condition::Equals("late".into()));
    assert_eq!(spec.filter["to"], Condition::Prefix { prefix: "JF".into() });
}

#[test]
fn an_unknown_field_is_refused() {
    assert!(serde_json::from_str::<QueueSpec>(r#"{"capasity":{"messages":1}}"#).is_err());
    assert!(serde_json::from_str::<PullRequest>(r#"{"wait":1}"#).is_err());
}

#[test]
fn a_payload_may_be_null() {
    let line: SendLine = serde_json::from_str(r#"{"data":null}"#).unwrap();
    assert_eq!(line.data.unwrap().get(), "null");
}
