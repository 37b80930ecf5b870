//! Handles of move tasks: which task of which queue.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::error::Fault;

/// A task of the queue in `group`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) group: u64,
    pub(crate) id: u64,
}

impl Task {
    /// As a client sees it.
    pub(crate) fn text(self) -> String {
        BASE64.encode(format!("move/{}/{}", self.group, self.id))
    }

    /// What [`text`](Self::text) was.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let parsed = || {
            let text = String::from_utf8(BASE64.decode(text).ok()?).ok()?;
            let (group, id) = text.strip_prefix("move/")?.split_once('/')?;
            Some(Self { group: group.parse().ok()?, id: id.parse().ok()? })
        };
        parsed().ok_or_else(|| Fault::value("TaskHandle", text, "It is no handle of a task."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_found_by_its_handle() {
        let task = Task { group: 7, id: u64::MAX };
        assert_eq!(Task::parse(&task.text()), Ok(task));
        for bad in ["", "x", "bW92ZS83", &BASE64.encode("move/7/x")] {
            assert!(Task::parse(bad).is_err(), "{bad}");
        }
    }
}
