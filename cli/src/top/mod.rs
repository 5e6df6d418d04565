//! `singletrack top`: leases, waiters, who blocks whom, and rates, live. Changes nothing.
//!
//! - `model`: what is shown and what a key does, pure
//! - `draw`: the model on a terminal; `plain`: the model as text and JSON
//! - `fetch`: what the server is asked for
//! - here: the loop, and the terminal that is given back however this ends

mod draw;
mod fetch;
mod model;
mod plain;

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    time::Duration,
};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};
use singletrack::{Client, Error, Transport};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};

use self::model::{Key, Model, Snapshot, Wanted};
use crate::{
    args::{ClientArgs, Format, TopArgs},
    end,
    exit::{Exit, Failure},
    output,
};

#[cfg(test)]
mod samples;

/// How long one look may take.
const LOOK_TIME: Duration = Duration::from_secs(5);
/// How often the terminal is asked for a key: how long this may take to end.
const KEY_TIME: Duration = Duration::from_millis(100);
/// What `--interval` may be.
const INTERVALS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3_600);
/// Keys that wait to be taken.
const KEYS: usize = 64;

/// Watches a server.
pub(crate) fn run(client: &ClientArgs, args: &TopArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Err(error) => Err(Failure::no_runtime(&error)),
        Ok(runtime) => runtime.block_on(top(client, args)),
    };
    end(result, client.output)
}

async fn top(server: &ClientArgs, args: &TopArgs) -> Result<(), Failure> {
    if !INTERVALS.contains(&args.interval) {
        return Err(Failure::Said {
            exit: Exit::Usage,
            message: format!("expected an interval of 100ms to 1h, found {:?}", args.interval),
            next_step: "choose another --interval".into(),
        });
    }
    let client = Client::builder(&server.server)
        .namespace(&server.namespace)
        .timeout(server.timeout.min(LOOK_TIME))
        .transport(Transport::Unary)
        .retries(false)
        .build()
        .map_err(Failure::read)?;
    let model = Model {
        server: server.server.clone(),
        namespace: server.namespace.clone(),
        interval: args.interval,
        prefix: args.prefix.clone(),
        ..Model::default()
    };
    let is_live = io::stdout().is_terminal() && server.output == Format::Table && !args.once;
    if is_live { watch_live(&client, model).await } else { once(&client, model, server).await }
}

// === once ===

/// One frame. The rates are those of one interval, which it takes.
async fn once(client: &Client, mut model: Model, server: &ClientArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let stats = client.stats().await.map_err(Failure::read)?;
    model.count_from(stats, started.elapsed());
    sleep(model.interval).await;
    let snapshot = fetch::look(client, &model.prefix).await.map_err(Failure::read)?;
    model.saw(snapshot, started.elapsed());
    output::print(server.output, || plain::to_json(&model), || plain::to_text(&model))?;
    Ok(())
}

// === live ===

/// A terminal that is given back when this is dropped. A panic gives it back too, before it is told.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A panic has given it back already; twice would move the cursor into what it told.
        if !std::thread::panicking() {
            // Nobody is left to be told.
            let _restored = ratatui::try_restore();
        }
    }
}

async fn watch_live(client: &Client, mut model: Model) -> Result<(), Failure> {
    let started = Instant::now();
    let (tell, mut looks) = mpsc::channel(1);
    let (ask, asked) = watch::channel(model.prefix.clone());
    tokio::spawn(keep_looking(client.clone(), model.interval, asked, tell));
    let mut ends = Ends::new()?;
    let mut screen = Screen::open()?;
    let mut keys = keys();
    loop {
        model.now = started.elapsed();
        screen.0.draw(|frame| draw::draw(frame, &model))?;
        tokio::select! {
            look = looks.recv() => match look {
                Some(Ok(snapshot)) => model.saw(snapshot, started.elapsed()),
                Some(Err(error)) => model.missed(words(&error), started.elapsed()),
                None => return Ok(()),
            },
            key = keys.recv() => match key.map(|event| meaning(&event, model.typing.is_some())) {
                Some(Some(key)) => match model.press(key) {
                    Wanted::Nothing => {}
                    Wanted::ToQuit => return Ok(()),
                    // The task that looks ends with this one alone.
                    Wanted::ToLook => drop(ask.send(model.prefix.clone())),
                },
                // Another size, or a key that means nothing: drawn anew.
                Some(None) => {}
                None => return Ok(()),
            },
            () = ends.wait() => return Ok(()),
        }
    }
}

fn words(error: &Error) -> String {
    format!("{}: {}", error.reason_name(), error.message())
}

/// Looks every interval, and at once when another prefix is asked for.
async fn keep_looking(
    client: Client,
    interval: Duration,
    mut prefix: watch::Receiver<String>,
    tell: mpsc::Sender<Result<Snapshot, Error>>,
) {
    loop {
        let wanted = prefix.borrow_and_update().clone();
        let look = fetch::look(&client, &wanted).await;
        // A look at what is asked for no more is none.
        let is_stale = prefix.has_changed().unwrap_or(false);
        if !is_stale && tell.send(look).await.is_err() {
            return;
        }
        if !is_stale && matches!(timeout(interval, prefix.changed()).await, Ok(Err(_))) {
            return;
        }
    }
}

/// Reads keys on a thread of its own, which ends soon after nobody takes them any more.
fn keys() -> mpsc::Receiver<Event> {
    let (tell, keys) = mpsc::channel(KEYS);
    std::thread::spawn(move || {
        while !tell.is_closed() {
            match event::poll(KEY_TIME) {
                Ok(false) => {}
                // A terminal that is gone ends the loop by the closed channel.
                Ok(true) => {
                    let Ok(event) = event::read() else { return };
                    if tell.blocking_send(event).is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    });
    keys
}

/// What a key means; `is_typing`: letters are letters.
fn meaning(event: &Event, is_typing: bool) -> Option<Key> {
    let Event::Key(KeyEvent { code, modifiers, kind, .. }) = event else { return None };
    if *kind == KeyEventKind::Release {
        return None;
    }
    if modifiers.contains(KeyModifiers::CONTROL) {
        return matches!(code, KeyCode::Char('c')).then_some(Key::Quit);
    }
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other keys mean nothing")]
    Some(match code {
        KeyCode::Char(c) if is_typing => Key::Char(*c),
        KeyCode::Char('q') => Key::Quit,
        KeyCode::Char('s') => Key::Sort,
        KeyCode::Char('/') => Key::Filter,
        KeyCode::Char('k') | KeyCode::Up => Key::Up,
        KeyCode::Char('j') | KeyCode::Down => Key::Down,
        KeyCode::Tab => Key::NextPane,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        _ => return None,
    })
}

/// Signals that end this in an orderly way.
struct Ends {
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

// === impl Ends ===

impl Ends {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
