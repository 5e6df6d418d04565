//! The model on a terminal. Pure: the same model gives the same frame. Names from the server can't
//! steer the terminal.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Paragraph, Row, Table, TableState, Wrap},
};
use singletrack::{LeaseInfo, Target, WaiterInfo};

use super::{
    model::{Blocker, Model, Pane},
    plain::{blocked, headlines, how},
};
use crate::{
    duration,
    explain::held_lines,
    output::{clean, label_words, mode_words, names},
};

/// Lines of what is told of the row that is looked at.
const DETAIL_LINES: u16 = 7;
/// A terminal of fewer lines has no room for that.
const DETAIL_FROM: u16 = 20;

const HELP: &str = "q quit  Tab pane  ↑↓ scroll  s sort  / prefix";

/// Draws a frame.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let area = frame.area();
    let detail = if area.height >= DETAIL_FROM { DETAIL_LINES } else { 0 };
    let [head, tabs, rows, below, foot] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(detail),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(heading(model), head);
    frame.render_widget(tab_line(model), tabs);
    draw_rows(frame, model, rows);
    if detail > 0 {
        draw_detail(frame, model, below);
    }
    frame.render_widget(Paragraph::new(footer(model)), foot);
}

fn heading(model: &Model) -> Paragraph<'static> {
    let mut lines: Vec<Line<'static>> = headlines(model).into_iter().map(Line::from).collect();
    if let Some(first) = lines.first_mut() {
        let color = if model.trouble.is_some() { Color::Red } else { Color::Green };
        *first = std::mem::take(first).style(Style::new().fg(color));
    }
    Paragraph::new(lines)
}

fn tab_line(model: &Model) -> Paragraph<'static> {
    let mut spans = Vec::new();
    for pane in Pane::ALL {
        let text = format!(" {} {} ", pane.name(), model.rows(pane));
        let style = if pane == model.pane {
            Style::new().add_modifier(Modifier::REVERSED)
        } else {
            Style::new().add_modifier(Modifier::DIM)
        };
        spans.push(Span::styled(text, style));
        spans.push(Span::raw(" "));
    }
    spans.push(Span::raw(format!("by {}", model.sorted_by(model.pane))));
    Paragraph::new(Line::from(spans))
}

fn footer(model: &Model) -> String {
    match &model.typing {
        Some(typing) => format!("prefix: {}_   Enter takes it, Esc drops it", clean(typing)),
        None => HELP.to_owned(),
    }
}

// === the rows ===

fn draw_rows(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let leases = model.snapshot.as_ref().map_or(&[][..], |it| &it.leases);
    let waiters = model.snapshot.as_ref().map_or(&[][..], |it| &it.waiters);
    // Only what is on the screen is made into rows: there may be many.
    let height = usize::from(area.height.saturating_sub(1)).max(1);
    let first = (model.selected() + 1).saturating_sub(height);
    let (header, shares, rows): (&[&str], &[u16], Vec<Vec<String>>) = match model.pane {
        Pane::Leases => (
            &["RESOURCE", "MODE", "HOLDER", "TOKEN", "HELD", "AT MOST", "LEFT"],
            &[3, 0, 2, 0, 0, 0, 0],
            leases.iter().skip(first).take(height).map(lease_row).collect(),
        ),
        Pane::Waiters => (
            &["RESOURCE", "HOLDER", "PRIO", "WAITING", "BLOCKED BY"],
            &[2, 1, 0, 0, 3],
            waiters.iter().skip(first).take(height).map(waiter_row).collect(),
        ),
        Pane::Blockers => (
            &["HOLDER", "HOW", "RESOURCE", "BLOCKS", "LONGEST", "WHOM"],
            &[1, 2, 1, 0, 0, 2],
            model.blockers.iter().skip(first).take(height).map(blocker_row).collect(),
        ),
    };
    let widths = widths(header, shares, &rows);
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let old = if model.trouble.is_some() { Modifier::DIM } else { Modifier::empty() };
    let table = Table::new(rows.into_iter().map(Row::new), widths)
        .header(Row::new(header.iter().copied()).style(bold))
        .style(Style::new().add_modifier(old))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(model.selected() - first);
    frame.render_stateful_widget(table, area, &mut state);
}

/// A share of what is left, or with no share as wide as what is in it.
fn widths(header: &[&str], shares: &[u16], rows: &[Vec<String>]) -> Vec<Constraint> {
    let width = |(column, (name, share)): (usize, (&&str, &u16))| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        let widest = cells.max().unwrap_or(0).max(name.len());
        match share {
            0 => Constraint::Length(u16::try_from(widest).unwrap_or(u16::MAX)),
            share => Constraint::Fill(*share),
        }
    };
    header.iter().zip(shares).enumerate().map(width).collect()
}

fn lease_row(lease: &LeaseInfo) -> Vec<String> {
    let mode = match lease.targets.as_slice() {
        [one] => mode_words(one),
        several => format!("{} resources", several.len()),
    };
    vec![
        names(&lease.targets),
        mode,
        clean(&lease.holder).into_owned(),
        lease.token.to_string(),
        duration::show(lease.held),
        lease.hold_remaining.map(duration::show).unwrap_or_default(),
        duration::show(lease.remaining),
    ]
}

fn waiter_row(waiter: &WaiterInfo) -> Vec<String> {
    vec![
        names(&waiter.targets),
        clean(&waiter.holder).into_owned(),
        waiter.priority.to_string(),
        duration::show(waiter.waited),
        foremost(waiter),
    ]
}

/// The foremost of what stands in its way, short.
fn foremost(waiter: &WaiterInfo) -> String {
    let Some(held) = &waiter.blocked_by else { return String::new() };
    match (held.holders.first(), held.waiters.first()) {
        (Some(by), _) => {
            let (holder, time, left) =
                (clean(&by.holder), duration::show(by.held), duration::show(by.remaining));
            let others = held.holder_count.saturating_sub(1);
            let more = if others > 0 { format!(", {others} more") } else { String::new() };
            format!("{holder} for {time}, {left} left{more}")
        }
        (None, Some(before)) => format!("behind {}", clean(&before.holder)),
        (None, None) if !held.closed.is_zero() => {
            format!("closed for {}", duration::show(held.closed))
        }
        (None, None) => String::new(),
    }
}

fn blocker_row(blocker: &Blocker) -> Vec<String> {
    vec![
        clean(&blocker.holder).into_owned(),
        how(blocker),
        clean(&blocker.resource).into_owned(),
        blocker.blocked.len().to_string(),
        duration::show(blocker.longest),
        blocked(blocker),
    ]
}

// === what is told of one row ===

fn draw_detail(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let lines: Vec<Line<'_>> = detail(model).into_iter().map(Line::from).collect();
    let text = Paragraph::new(lines).wrap(Wrap { trim: false });
    frame.render_widget(text.block(Block::bordered().title("of this row")), area);
}

fn detail(model: &Model) -> Vec<String> {
    let at = model.selected();
    let snapshot = model.snapshot.as_ref();
    match model.pane {
        Pane::Leases => snapshot.and_then(|it| it.leases.get(at)).map_or_else(Vec::new, of_lease),
        Pane::Waiters => {
            snapshot.and_then(|it| it.waiters.get(at)).map_or_else(Vec::new, of_waiter)
        }
        Pane::Blockers => model.blockers.get(at).map_or_else(Vec::new, of_blocker),
    }
}

fn of_waiter(waiter: &WaiterInfo) -> Vec<String> {
    let mut lines = vec![format!("wants {}", targets(&waiter.targets))];
    if let Some(held) = &waiter.blocked_by {
        lines.extend(held_lines(held));
    }
    lines
}

fn targets(targets: &[Target]) -> String {
    let target = |it: &Target| format!("{} ({})", clean(&it.resource), mode_words(it));
    targets.iter().map(target).collect::<Vec<_>>().join(", ")
}

fn of_lease(lease: &LeaseInfo) -> Vec<String> {
    let mut lines = vec![targets(&lease.targets)];
    let actor = lease.actor.as_deref().map(clean).unwrap_or("none".into());
    let (ttl, delay) = (duration::show(lease.ttl), duration::show(lease.lock_delay));
    lines.push(format!("actor {actor}, ttl {ttl}, lock delay {delay}"));
    if !lease.labels.is_empty() {
        lines.push(format!("labels {}", label_words(lease)));
    }
    for request in &lease.yield_requests {
        let reason = request.reason.as_deref().map(clean).unwrap_or("no reason".into());
        let said = if request.answer.is_some() { "answered" } else { "no answer yet" };
        lines.push(format!("{} asks for it: {reason} ({said})", clean(&request.holder)));
    }
    lines
}

fn of_blocker(blocker: &Blocker) -> Vec<String> {
    let mut lines = vec![format!("{} {}", clean(&blocker.holder), how(blocker))];
    if let Some(by) = &blocker.by {
        lines.push(crate::explain::held_by(by));
    }
    let names: Vec<_> = blocker.blocked.iter().map(|it| clean(it)).collect();
    lines.push(format!("blocks {}", names.join(", ")));
    lines
}

#[cfg(test)]
#[path = "draw_tests.rs"]
mod tests;
