//! What every service shares: config, listener, middleware, problems, health, drain.
