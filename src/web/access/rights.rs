//! What somebody may do here, and what each request takes.

use axum::http::Method;
use serde::Deserialize;
use serde::Serialize;

/// One thing that a person or a program may do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Right {
    /// See studies, images, reports and their patients
    View,
    /// Answer alerts
    Answer,
    /// Say what a reading is worth, have a study read now, again or not
    Judge,
    /// Bring images in: uploads, STOW-RS
    Send,
    /// Run the node: queue, senders, settings, audit, accounts
    Operate,
    /// Read the metrics
    Watch,
}

impl Right {
    pub const ALL: [Right; 6] =
        [Right::View, Right::Answer, Right::Judge, Right::Send, Right::Operate, Right::Watch];

    pub fn word(self) -> &'static str {
        match self {
            Right::View => "view",
            Right::Answer => "answer",
            Right::Judge => "judge",
            Right::Send => "send",
            Right::Operate => "operate",
            Right::Watch => "watch",
        }
    }
}

/// What a person is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Role {
    /// Sees studies and reports
    Viewer,
    /// Also answers alerts
    OnCall,
    /// Also judges readings, has studies read, and sends images
    Radiologist,
    /// Also runs the node
    Administrator,
}

impl Role {
    /// Each may what the one before may.
    pub const ALL: [Role; 4] = [Role::Viewer, Role::OnCall, Role::Radiologist, Role::Administrator];

    pub fn rights(self) -> &'static [Right] {
        match self {
            Role::Viewer => &[Right::View],
            Role::OnCall => &[Right::View, Right::Answer],
            Role::Radiologist => &[Right::View, Right::Answer, Right::Judge, Right::Send],
            Role::Administrator => &Right::ALL,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::OnCall => "on_call",
            Role::Radiologist => "radiologist",
            Role::Administrator => "administrator",
        }
    }
}

/// Routes that show what only those see who run the node, whatever the method.
const OPERATED: [&str; 7] = [
    "/accounts",
    "/audit",
    "/settings",
    "/rules",
    "/api/v1/audit",
    "/api/v1/keys",
    "/api/v1/canary",
];

/// Routes that change something and take another right than [`Right::Operate`]: what they begin
/// with, and the right.
const CHANGES: [(&str, Right); 8] = [
    ("/alerts/", Right::Answer),
    ("/api/v1/alerts/", Right::Answer),
    ("/studies/", Right::Judge),
    ("/api/v1/studies/", Right::Judge),
    ("/api/v1/feedback", Right::Judge),
    ("/api/v1/analyze", Right::Send),
    ("/api/v1/batch-analyze", Right::Send),
    ("/dicom-web/", Right::Send),
];

/// The right that a request takes; none for what everyone has who is known here.
///
/// - `route`: as it stands in the router (`/studies/{uid}`); empty where there is none. A route that
///   stands in no table takes [`Right::View`] to look and [`Right::Operate`] to change.
pub fn right_for(method: &Method, route: &str) -> Option<Right> {
    let is_below = |top: &str| {
        route.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if is_below("/account") || matches!(route, "" | "/logout" | "/language") {
        return None;
    }
    if route == "/metrics" {
        return Some(Right::Watch);
    }
    if OPERATED.into_iter().any(is_below) {
        return Some(Right::Operate);
    }
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Some(Right::View);
    }
    let change = CHANGES.into_iter().find(|(begin, _)| route.starts_with(begin));
    Some(change.map_or(Right::Operate, |(_, right)| right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_takes_one_right_and_an_unknown_change_that_of_who_runs_the_node() {
        let (get, post) = (Method::GET, Method::POST);
        for (method, route, right) in [
            (&get, "/", Some(Right::View)),
            (&get, "/studies/{uid}", Some(Right::View)),
            (&get, "/dicom-web/studies", Some(Right::View)),
            (&get, "/metrics", Some(Right::Watch)),
            (&get, "/audit", Some(Right::Operate)),
            (&get, "/settings", Some(Right::Operate)),
            (&get, "/accounts", Some(Right::Operate)),
            (&get, "/api/v1/keys", Some(Right::Operate)),
            (&get, "/account", None),
            (&post, "/account/password", None),
            (&post, "/logout", None),
            (&post, "/language", None),
            (&post, "/alerts/{alert}", Some(Right::Answer)),
            (&post, "/alerts/{alert}/close", Some(Right::Answer)),
            (&post, "/studies/{uid}/complete", Some(Right::Judge)),
            (&post, "/api/v1/studies/{uid}/feedback", Some(Right::Judge)),
            (&post, "/api/v1/analyze", Some(Right::Send)),
            (&post, "/api/v1/batch-analyze", Some(Right::Send)),
            (&post, "/dicom-web/studies/{study}", Some(Right::Send)),
            (&post, "/queue/retry", Some(Right::Operate)),
            (&post, "/something/new", Some(Right::Operate)),
            (&Method::DELETE, "/dicom-web-not", Some(Right::Operate)),
        ] {
            assert_eq!(right_for(method, route), right, "{method} {route}");
        }
    }

    #[test]
    fn each_role_may_what_the_one_before_may() {
        for pair in Role::ALL.windows(2) {
            let more = pair[0].rights().iter().all(|right| pair[1].rights().contains(right));
            assert!(more && pair[0].rights().len() < pair[1].rights().len(), "{pair:?}");
        }
    }
}
