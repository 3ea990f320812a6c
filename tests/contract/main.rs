//! Contract tests: what pgmoor needs of a broker, asked of each broker that it supports.
//!
//! One suite runs against the embedded broker, a mosquitto with the shipped configuration and access list, and a
//! mosquitto with its defaults. Network traffic stays on loopback; every broker is ended with its test.
#![cfg(test)]

mod access;
mod brokers;
mod hosts;
mod inbound;
mod outage;
mod outbound;
mod proxy;
mod session;
mod tls;

/// Runs each of the named tests of the calling module against every broker.
#[macro_export]
macro_rules! against_every_broker {
    ($($test:ident),+ $(,)?) => {
        $crate::against_every_broker!(@ embedded Embedded $($test)+);
        $crate::against_every_broker!(@ mosquitto Mosquitto $($test)+);
        $crate::against_every_broker!(@ plain_mosquitto PlainMosquitto $($test)+);
    };
    (@ $module:ident $kind:ident $($test:ident)+) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($crate::brokers::Running::start($crate::brokers::Kind::$kind).await).await;
                }
            )+
        }
    };
}
