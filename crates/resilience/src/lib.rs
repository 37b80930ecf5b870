//! Retry, budget, breaker, balance, limit, deadline: pure state and tower layers.
