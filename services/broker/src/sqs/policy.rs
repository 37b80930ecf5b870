//! Permissions: statements of a queue's policy. They are kept and told, not enforced: who may reach
//! a broker is decided by its own tokens.

use serde_json::{Value, json};

use super::error::{Code, Fault};

/// Longest label of a permission.
const MAX_LABEL: usize = 80;
/// Most actions of one permission, and most statements of a policy.
const MAX_ACTIONS: usize = 7;
const MAX_STATEMENTS: usize = 20;
/// Actions that can be allowed.
const ACTIONS: [&str; 7] = [
    "*",
    "SendMessage",
    "ReceiveMessage",
    "DeleteMessage",
    "ChangeMessageVisibility",
    "GetQueueAttributes",
    "GetQueueUrl",
];

/// Adds a statement to a policy, or to an empty one.
pub(crate) fn grant(
    policy: &str,
    arn: &str,
    label: &str,
    (accounts, actions): (&[String], &[String]),
) -> Result<String, Fault> {
    let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    if !(1..=MAX_LABEL).contains(&label.len()) || !label.bytes().all(fits) {
        return Err(Fault::value("Label", label, "1 to 80 letters, digits, hyphens, underscores."));
    }
    if MAX_ACTIONS < actions.len() {
        let message = format!("{} Actions were found, maximum allowed is 7.", actions.len());
        return Err(Fault::new(Code::OverLimit, message));
    }
    if let Some(action) = actions.iter().find(|action| !ACTIONS.contains(&action.as_str())) {
        let reason = "Please refer to the appropriate WSDL for a list of valid actions.";
        return Err(Fault::value("ActionName", action, reason));
    }
    let is_account = |id: &&String| id.len() == 12 && id.bytes().all(|c| c.is_ascii_digit());
    if let Some(account) = accounts.iter().find(|id| !is_account(id)) {
        return Err(Fault::value("PrincipalId", account, "Unable to verify."));
    }
    let mut policy = read(policy, arn);
    let statements = statements(&mut policy);
    if statements.iter().any(|statement| statement["Sid"] == label) {
        return Err(Fault::value("Label", label, "Already exists."));
    }
    if MAX_STATEMENTS <= statements.len() {
        let message = "20 Statements were found, maximum allowed is 20.";
        return Err(Fault::new(Code::OverLimit, message));
    }
    let principals: Vec<_> = accounts.iter().map(|id| format!("arn:aws:iam::{id}:root")).collect();
    let actions: Vec<_> = actions.iter().map(|action| format!("SQS:{action}")).collect();
    statements.push(json!({
        "Sid": label, "Effect": "Allow", "Principal": { "AWS": one_or_many(principals) },
        "Action": one_or_many(actions), "Resource": arn,
    }));
    Ok(policy.to_string())
}

/// Takes a statement out of a policy. The policy is empty when none is left.
pub(crate) fn revoke(policy: &str, arn: &str, label: &str) -> Result<String, Fault> {
    let mut policy = read(policy, arn);
    let statements = statements(&mut policy);
    let before = statements.len();
    statements.retain(|statement| statement["Sid"] != label);
    if statements.len() == before {
        return Err(Fault::value("Label", label, "can't find label on existing policy."));
    }
    Ok(if statements.is_empty() { String::new() } else { policy.to_string() })
}

fn read(policy: &str, arn: &str) -> Value {
    let known = serde_json::from_str(policy).ok().filter(Value::is_object);
    known.unwrap_or_else(
        || json!({ "Version": "2012-10-17", "Id": format!("{arn}/SQSDefaultPolicy"), "Statement": [] }),
    )
}

fn statements(policy: &mut Value) -> &mut Vec<Value> {
    let statement = &mut policy["Statement"];
    if !statement.is_array() {
        let only = statement.take();
        *statement = if only.is_null() { json!([]) } else { json!([only]) };
    }
    statement.as_array_mut().expect("it has just been made one")
}

fn one_or_many(mut texts: Vec<String>) -> Value {
    if texts.len() == 1 { texts.remove(0).into() } else { texts.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:sqs:us-east-1:000000000000:q";

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_permission_is_a_statement_that_can_be_taken_back() {
        let (accounts, actions) = (texts(&["123456789012"]), texts(&["SendMessage", "*"]));
        let policy = grant("", ARN, "a", (&accounts, &actions)).unwrap();
        let both = grant(&policy, ARN, "b", (&accounts, &actions)).unwrap();
        let read: Value = serde_json::from_str(&both).unwrap();
        assert_eq!(read["Statement"][1]["Sid"], "b");
        assert_eq!(read["Statement"][0]["Principal"]["AWS"], "arn:aws:iam::123456789012:root");
        assert_eq!(read["Statement"][0]["Action"], json!(["SQS:SendMessage", "SQS:*"]));
        assert_eq!(revoke(&both, ARN, "b").unwrap(), policy);
        assert_eq!(revoke(&policy, ARN, "a").unwrap(), "");
        assert_eq!(revoke(&policy, ARN, "b").unwrap_err().code, Code::InvalidParameterValue);
    }

    #[test]
    fn a_permission_that_makes_no_sense_is_refused() {
        let (accounts, actions) = (texts(&["123456789012"]), texts(&["SendMessage"]));
        let policy = grant("", ARN, "a", (&accounts, &actions)).unwrap();
        let code = |policy: &str, label: &str, accounts: &[String], actions: &[String]| {
            grant(policy, ARN, label, (accounts, actions)).unwrap_err().code
        };
        let invalid = Code::InvalidParameterValue;
        assert_eq!(code(&policy, "a", &accounts, &actions), invalid);
        assert_eq!(code("", "a b", &accounts, &actions), invalid);
        assert_eq!(code("", "a", &texts(&["12"]), &actions), invalid);
        assert_eq!(code("", "a", &accounts, &texts(&["Fly"])), invalid);
        assert_eq!(code("", "a", &accounts, &vec!["*".to_owned(); 8]), Code::OverLimit);
    }
}
