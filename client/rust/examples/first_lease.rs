//! Takes a lease, renews it and gives it back: `cargo run -p singletrack --example first_lease`.

use std::{io::Write as _, time::Duration};

use singletrack::{Acquire, Client, DEFAULT_URL, Release};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| DEFAULT_URL.to_owned());
    let mut out = std::io::stdout().lock();

    let client = Client::connect(url)?;
    let wish = Acquire::new("examples/first", "first_lease")
        .ttl(Duration::from_secs(5))
        .wait(Duration::from_secs(10));
    let lease = client.acquire(wish).await?;
    writeln!(out, "holding {} with token {}", lease.resource(), lease.token)?;

    let renewed = client.renew_one(&lease.lease_id, lease.token).await?;
    writeln!(out, "renewed, {:?} left", renewed.remaining)?;

    client.release(Release::of(&lease)).await?;
    writeln!(out, "released")?;
    Ok(())
}
