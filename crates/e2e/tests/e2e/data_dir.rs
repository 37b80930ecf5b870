//! One process per data directory.

use crate::node::{Node, ok};

#[tokio::test]
async fn a_second_process_on_the_same_directory_is_refused() {
    for service in ["coordinator", "broker", "replica"] {
        let node = Node::start(service).await;
        let before = node.log().len();
        let status = node.rival().await;
        assert!(!status.success(), "{service}");
        let said = node.log()[before..].to_owned();
        let directory = node.data_dir().display().to_string();
        assert!(said.contains(&directory), "{service} does not name its directory: {said}");
        // The first one does not suffer.
        ok(node.get("/readyz")).await;
    }
}
