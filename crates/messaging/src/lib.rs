//! Topics, subscriptions and queues as deterministic state machines.
