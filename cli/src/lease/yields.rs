//! `lease yield` and `lease answer`: asking holders to give a lease up, and what they say.

use std::time::Duration;

use serde_json::{Value, json};
use singletrack::{AnswerYield, Client, Error, Reason, RequestYield, YieldAnswer, YieldStatus};
use tokio::time::{Instant, sleep};

use super::default_holder;
use crate::{
    args::{AnswerArgs, Format, YieldArgs},
    duration,
    exit::{Exit, Failure},
    output::{self, answer_json, clean, number, table},
};

/// How long between asking and asking again.
const PAUSE: Duration = Duration::from_millis(500);

/// What came of asking.
enum Asked {
    /// Those who hold it still, and what they say.
    Held(Vec<YieldStatus>),
    /// Those who held it gave it up while this waited.
    GivenUp,
}

// === yield ===

pub(crate) async fn ask(client: &Client, args: &YieldArgs, format: Format) -> Result<(), Failure> {
    let asked = ask_until(client, args)
        .await
        .map_err(|error| Failure::repeat(error, "repeat it: to ask twice is to ask once"))?;
    let (holders, is_given_up) = match &asked {
        Asked::Held(holders) => (holders.as_slice(), false),
        Asked::GivenUp => (&[][..], true),
    };
    let as_json = || {
        let holders: Vec<_> = holders.iter().map(status_json).collect();
        json!({ "resource": args.resource, "holders": holders, "given_up": is_given_up })
    };
    let as_table = || match is_given_up {
        true => format!("{} was given up\n", clean(&args.resource)),
        false => status_table(holders),
    };
    output::print(format, as_json, as_table)?;
    let will_yield = |it: &YieldStatus| it.answer.as_ref().is_some_and(|it| it.will_yield);
    match args.wait {
        Some(_) if !holders.iter().all(will_yield) => Err(Failure::Shown(Exit::Refused)),
        Some(_) | None => Ok(()),
    }
}

/// Asks, and again until there is an answer of each or the time is over.
async fn ask_until(client: &Client, args: &YieldArgs) -> Result<Asked, Error> {
    let ends = Instant::now() + args.wait.unwrap_or_default();
    let mut was_held = false;
    loop {
        let holders = match client.request_yield(request(args)).await {
            Ok(holders) => holders,
            Err(error) if was_held && error.reason() == Some(Reason::NotFound) => {
                return Ok(Asked::GivenUp);
            }
            Err(error) => return Err(error),
        };
        was_held = true;
        let is_answered = holders.iter().all(|it| it.answer.is_some());
        if is_answered || Instant::now() >= ends {
            return Ok(Asked::Held(holders));
        }
        sleep(PAUSE.min(ends.saturating_duration_since(Instant::now()))).await;
    }
}

fn request(args: &YieldArgs) -> RequestYield {
    let holder = args.holder.clone().unwrap_or_else(default_holder);
    let request = RequestYield::new(&args.resource, holder).reason(&args.reason);
    match args.token {
        Some(token) => request.token(token),
        None => request,
    }
}

fn status_json(status: &YieldStatus) -> Value {
    json!({
        "holder": status.holder,
        "token": number(status.token),
        "remaining_ms": number(status.remaining.as_millis()),
        "told": status.told,
        "answer": status.answer.as_ref().map(answer_json),
    })
}

fn status_table(holders: &[YieldStatus]) -> String {
    let rows: Vec<_> = holders
        .iter()
        .map(|status| {
            let answer = match (&status.answer, status.told) {
                (Some(answer), _) => answer_words(answer),
                (None, true) => "was told, no answer yet".to_owned(),
                (None, false) => "will be told when it renews".to_owned(),
            };
            [
                clean(&status.holder).into_owned(),
                status.token.to_string(),
                duration::show(status.remaining),
                answer,
            ]
        })
        .collect();
    table(["HOLDER", "TOKEN", "REMAINING", "ANSWER"], &rows)
}

/// A holder's answer in words.
pub(crate) fn answer_words(answer: &YieldAnswer) -> String {
    let words = match answer.will_yield {
        true => format!("yields within {}", duration::show(answer.within)),
        false => "declines".to_owned(),
    };
    match &answer.message {
        Some(message) => format!("{words}: {}", clean(message)),
        None => words,
    }
}

// === answer ===

pub(crate) async fn answer(
    client: &Client,
    args: &AnswerArgs,
    format: Format,
) -> Result<(), Failure> {
    let answer = match args.answer.yield_within {
        Some(within) => YieldAnswer::within(within),
        None => YieldAnswer::decline(),
    };
    let answer = match &args.message {
        Some(message) => answer.message(message),
        None => answer,
    };
    let mut answer = AnswerYield::new(&args.lease.lease_id, args.lease.token, answer);
    if let Some(number) = args.number {
        answer = answer.number(number);
    }
    let answered = client
        .answer_yield(answer)
        .await
        .map_err(|error| Failure::repeat(error, "repeat it: to answer twice is to answer once"))?;
    let as_json = || json!({ "answered": answered });
    output::print(format, as_json, || format!("answered {answered}\n"))?;
    Ok(())
}
