//! One publish through the gateway and its later delivery are one story in spans.
