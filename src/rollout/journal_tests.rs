//! What can follow what in a journal, and what can't.

use super::Illegal::*;
use super::machine::{Decision, next};
use super::*;

const A: StepId = StepId { stage: 0, step: 0 };
const B: StepId = StepId { stage: 0, step: 1 };
const C: StepId = StepId { stage: 1, step: 0 };
const D: StepId = StepId { stage: 2, step: 0 };

fn failed(id: StepId) -> Entry {
    Entry::Failed(id, "denied".to_owned())
}

fn undo_failed(id: StepId) -> Entry {
    Entry::UndoFailed(id, "denied".to_owned())
}

fn left(id: StepId) -> Entry {
    Entry::Left(id, "denied".to_owned())
}

fn made(id: StepId) -> Entry {
    Entry::Made(id, "rule".to_owned())
}

fn saw(id: StepId) -> Entry {
    Entry::Saw(id, "output".to_owned())
}

fn crossed() -> Entry {
    Entry::ExternalChange("moved".to_owned())
}

/// A journal of these, of which each can follow.
#[track_caller]
fn journal(entries: &[Entry]) -> Journal {
    let mut journal = Journal::default();
    for entry in entries {
        journal.push(entry.clone()).unwrap();
    }
    journal
}

#[test]
fn what_happens_can_be_written() {
    use Entry::{Answered, Began, Done, Expired, Interrupted, Repeated, Unanswered, Undone};
    let told: [(&str, &[Entry]); 18] = [
        ("all of it", &[Began(A), Began(B), Done(A), Done(B), Began(C), Done(C), made(C)]),
        ("a stage that holds already is passed over", &[Began(A), Done(A), Began(D), Done(D)]),
        ("one of a stage fails, the others end", &[Began(A), Began(B), failed(A), saw(A), Done(B), made(B), Undone(B)]),
        ("both of a stage fail", &[Began(A), Began(B), failed(A), failed(B), Undone(A), Undone(B)]),
        ("the lock is silent before anything", &[failed(A)]),
        ("the lock is silent after a step", &[Began(A), Done(A), failed(A), Undone(A)]),
        ("a rule of somebody else's is in the way", &[Began(A), Began(B), failed(A), Undone(A), Done(B), Undone(B)]),
        ("stopped before anything", &[Interrupted]),
        ("stopped at a step", &[Began(A), Interrupted, Undone(A)]),
        ("two meet somebody else", &[Began(A), Began(B), crossed(), crossed()]),
        ("the lock is taken on the way back", &[Began(A), failed(A), crossed()]),
        (
            "an answer comes after all",
            &[Began(A), Unanswered(A), failed(A), Undone(A), Done(A), made(A), Answered(A), Undone(A)],
        ),
        ("no answer comes", &[Began(A), Unanswered(A), failed(A), Expired(A)]),
        (
            "it is seen once it was given up",
            &[Began(A), Unanswered(A), Interrupted, Expired(A), Answered(A), Undone(A)],
        ),
        (
            "sent twice, and its effect comes again",
            &[Began(A), Done(A), Repeated(A), Began(C), Done(C), Began(C), Done(C), Expired(A)],
        ),
        (
            "a watch that a late call interrupts",
            &[Began(A), Done(A), Repeated(A), Began(C), Began(A), Done(A), Began(C), Done(C)],
        ),
        (
            "an undo sent twice",
            &[Began(A), failed(A), Undone(A), Repeated(A), Undone(A), undo_failed(A), undo_failed(A)],
        ),
        (
            "what comes afterwards is left",
            &[Began(A), Done(A), Began(C), Unanswered(C), left(C), left(D), Done(C), Answered(C)],
        ),
    ];
    for (story, entries) in told {
        let mut journal = Journal::default();
        for entry in entries {
            assert_eq!(journal.push(entry.clone()), Ok(()), "{story}");
        }
        assert_eq!(journal.entries(), entries, "{story}");
    }
}

#[test]
fn what_cannot_have_happened_is_refused() {
    use Entry::{Answered, Began, Done, Expired, Interrupted, Repeated, Unanswered, Undone};
    let told: [(&[Entry], Entry, Illegal); 35] = [
        (&[], Done(A), NotBegun),
        (&[], Unanswered(A), NotBegun),
        (&[], Answered(A), NotInDoubt),
        (&[], Expired(A), NeverLate),
        (&[], Repeated(A), NotEnded),
        (&[], made(A), NotDone),
        (&[], saw(A), NotFailed),
        (&[], Undone(A), NotBegun),
        (&[], undo_failed(A), NotBegun),
        (&[Began(A)], Began(A), BegunBefore),
        (&[Began(A)], made(A), NotDone),
        (&[Began(A)], saw(A), NotFailed),
        (&[Began(A)], Repeated(A), NotEnded),
        (&[Began(A)], Answered(A), NotInDoubt),
        (&[Began(A)], Undone(A), NotBroken),
        (&[Began(A)], undo_failed(A), NotBroken),
        (&[Began(A), Done(A)], Done(A), NotUnderWay),
        (&[Began(A), Done(A)], Began(A), BegunBefore),
        (&[Began(A), Done(A)], Unanswered(A), NotUnderWay),
        (&[Began(A), Done(A)], left(A), Finished),
        (&[Began(A), Done(A), left(C)], left(C), Finished),
        (&[Began(A), Done(A), Began(C)], Began(B), StagePassed),
        (&[Began(A), failed(A)], Done(A), NotUnderWay),
        (&[Began(A), failed(A)], failed(A), Broken),
        (&[Began(A), failed(A)], Began(C), Broken),
        (&[Began(A), failed(A)], left(C), Broken),
        (&[Began(A), failed(A)], Interrupted, Broken),
        (&[Interrupted], Interrupted, Broken),
        (&[crossed()], Began(A), Broken),
        (&[Began(A), failed(A), Undone(A)], Undone(A), TakenBack),
        (&[Began(A), failed(A), Undone(A)], Done(A), NotUnderWay),
        (&[Began(A), failed(A), undo_failed(A)], undo_failed(A), TakenBack),
        (&[Began(A), failed(A), undo_failed(A)], Undone(A), TakenBack),
        (&[Began(A), Unanswered(A)], Began(A), InDoubt),
        (&[Began(A), Unanswered(A), failed(A), Expired(A)], Expired(A), ExpiredBefore),
    ];
    for (before, entry, reason) in told {
        let mut journal = journal(before);
        assert_eq!(journal.push(entry.clone()), Err(IllegalEntry { entry, reason }), "{before:?}");
        assert_eq!(journal.entries(), before, "what is refused is not written");
    }
}

#[test]
fn a_refusal_says_what_and_why_and_nothing_of_others() {
    let secret = Entry::Left(C, "hunter2".to_owned());
    let refused = journal(&[Entry::Interrupted]).push(secret).unwrap_err();
    assert_eq!(refused.to_string(), "Left of stage 2, step 1: the rollout can't go on");
    let refused = journal(&[crossed()]).push(Entry::Interrupted).unwrap_err();
    assert_eq!(refused.to_string(), "Interrupted: the rollout can't go on");
}

#[test]
fn what_was_written_down_once_can_always_be_read() {
    // No step of it began, and one is done twice: it is what it is, and what follows must still follow.
    let written = r#"{"entries":[{"Done":{"stage":0,"step":0}},{"Done":{"stage":0,"step":0}},"Interrupted",{"ExternalChange":"x"}]}"#;
    let mut journal: Journal = serde_json::from_str(written).unwrap();
    assert!(journal.done(A) && journal.is_interrupted() && journal.has_external_change());
    assert_eq!(journal.push(Entry::Undone(A)).unwrap_err().reason, NotBegun);
    assert_eq!(next(&Runbook::default(), &journal, None), Decision::Held);
    assert_eq!(serde_json::to_string(&journal).unwrap(), written);
}
