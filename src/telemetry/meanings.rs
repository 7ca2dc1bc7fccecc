//! What each metric says, for `/metrics`. `tests/it/watching.rs` holds it against what is set.

/// Tells the recorder.
pub fn describe() {
    for (name, text) in COUNTERS {
        metrics::describe_counter!(*name, *text);
    }
    for (name, text) in GAUGES {
        metrics::describe_gauge!(*name, *text);
    }
    for (name, text) in HISTOGRAMS {
        metrics::describe_histogram!(*name, *text);
    }
}

const COUNTERS: &[(&str, &str)] = &[
    ("prelim_accept_errors_total", "Connections for DICOM that could not be accepted"),
    ("prelim_alerts_dead_total", "Messages of alerts that were given up"),
    ("prelim_alerts_doubted_total", "Alerts that a later reading did not show; they go on"),
    ("prelim_alerts_escalated_total", "Levels of alerts that were told because nobody answered"),
    ("prelim_alerts_exhausted_total", "Alerts of which everyone was told and nobody answered"),
    ("prelim_alerts_held_total", "Messages that wait to be told together with others"),
    ("prelim_alerts_joined_total", "Alerts that a later revision bore out"),
    ("prelim_alerts_raised_total", "Alerts by urgency"),
    ("prelim_alerts_sent_total", "Messages of alerts that a server took"),
    ("prelim_alerts_withdrawn_total", "Alerts that a later revision did not bear out"),
    ("prelim_archive_queries_failed_total", "Times the archive could not be asked for its count"),
    ("prelim_archive_queries_total", "Times the archive was asked how many images a study has"),
    ("prelim_associations_total", "Associations by how they ended"),
    ("prelim_audit_failures_total", "Times the audit repository took no messages"),
    ("prelim_audit_lost_total", "Looks at patient data that could not be noted in the ledger"),
    ("prelim_audit_messages_total", "Audit messages that were sent"),
    ("prelim_commitments_total", "Reports of storage commitment by outcome"),
    ("prelim_comparisons_total", "Opinions and final reports that were set beside a reading"),
    ("prelim_deliveries_dead_total", "Results that were given up, by destination"),
    ("prelim_deliveries_total", "Results that a destination took"),
    ("prelim_dicomweb_instances_total", "Instances that came by STOW-RS, by outcome"),
    ("prelim_dicomweb_stores_total", "Requests of STOW-RS"),
    ("prelim_gateway_calls_total", "Calls to models by gateway and outcome"),
    ("prelim_hl7_messages_total", "HL7 messages that came in, by kind and outcome"),
    ("prelim_http_rate_limited_total", "Requests to the API that came too often"),
    ("prelim_http_requests_total", "HTTP requests by method, route and status"),
    ("prelim_http_wrong_tokens_total", "Wrong passwords and access tokens"),
    (
        "prelim_instances_clashing_total",
        "Instances that were refused: their SOP Instance UID is known in another study or series",
    ),
    ("prelim_instances_offered_total", "C-STORE requests"),
    ("prelim_instances_received_total", "C-STORE requests that were answered with success"),
    (
        "prelim_instances_unreadable_total",
        "Instances that are kept as they came, with a mark: their data set is odd",
    ),
    ("prelim_kinds_refused_total", "Kinds of results that a destination takes none of"),
    ("prelim_needs_review_total", "Readings that ended as needs review"),
    ("prelim_origins_total", "Objects of which it was decided what they are, by origin"),
    ("prelim_procedure_steps_total", "Performed procedure steps (MPPS) by what was said"),
    ("prelim_readings_over_budget_total", "Readings that a used up budget changed"),
    ("prelim_received_bytes_total", "Bytes of data sets that came by C-STORE"),
    ("prelim_refusals_total", "C-STORE requests that were refused, by DIMSE status"),
    ("prelim_rejections_total", "Associations that were rejected, by reason"),
    ("prelim_shadow_readings_total", "Readings without effect, by gateway and whether they differ"),
    ("prelim_source_silences_total", "Times a source fell silent that usually sends"),
    ("prelim_steps_total", "Tries of steps of studies by step and outcome"),
    ("prelim_studies_incomplete_total", "Studies that were closed with images missing"),
    ("prelim_studies_removed_total", "Studies whose files were removed by the rules for keeping"),
    ("prelim_tls_failures_total", "DICOM connections on which no TLS was agreed on"),
    ("prelim_tls_reload_failures_total", "New certificates that could not be used"),
    ("prelim_traces_failures_total", "Times the collector of traces took no spans"),
    ("prelim_traces_lost_total", "Spans that the collector refused for good"),
    ("prelim_traces_spans_total", "Spans that were sent"),
    ("prelim_uploads_total", "Files that were uploaded and kept"),
    ("prelim_worklist_queries_failed_total", "Times the modality worklist could not be asked"),
    ("prelim_wrong_passcodes_total", "Associations with a wrong user or passcode"),
];

const GAUGES: &[(&str, &str)] = &[
    ("prelim_alert_oldest_seconds", "Since the oldest alert was raised that nobody has answered"),
    ("prelim_alert_precision", "Share of the judged alerts that were right, 0 to 1"),
    ("prelim_alerts_judged", "Alerts of which doctors or final reports say anything"),
    ("prelim_alerts_unanswered", "Alerts that nobody has answered"),
    ("prelim_associations_open", "Associations now"),
    ("prelim_audit_behind_records", "Records of the ledger that the audit repository lacks"),
    ("prelim_audit_behind_seconds", "Age of the oldest record that the audit repository lacks"),
    ("prelim_budget_used_ratio", "Used part of each budget"),
    ("prelim_canary_difference_ratio", "Share of studies that the candidate read differently"),
    ("prelim_data_free_bytes", "Free space where the data folder is"),
    ("prelim_drift_alarms", "Findings made far more or less often than in the weeks before"),
    ("prelim_gateway_answers", "1 while the gateway answers when it is looked at"),
    ("prelim_gateway_usable", "1 while the gateway is asked, 0 while it rests"),
    ("prelim_index_ready", "1, and 0 while the index is made anew"),
    ("prelim_index_records_to_do", "Records of the ledger that are not in the index yet"),
    ("prelim_data_gaps", "What the last look at ledger and objects found missing or changed"),
    ("prelim_ledger_damage", "Parts of the ledger that are lost"),
    ("prelim_instances_unfiled", "Instances that stand in the journal alone"),
    ("prelim_jobs", "Jobs by state"),
    ("prelim_jobs_oldest_overdue_seconds", "Since when the job is due that waits longest"),
    ("prelim_key_used_ratio", "Used part of the month's quota of each key"),
    ("prelim_readings_held_up", "Readings that wait for a gateway after a try that failed"),
    ("prelim_settings_refused", "1 while the settings on disk cannot be used and the old hold"),
    ("prelim_source_silent", "1 while a source is silent that usually sends"),
    ("prelim_tls_certificate_expires_timestamp_seconds", "End of the node's certificate"),
    ("prelim_traces_behind_records", "Records of the ledger that the collector lacks"),
    ("prelim_traces_behind_seconds", "Age of the oldest record that the collector lacks"),
];

const HISTOGRAMS: &[(&str, &str)] = &[
    ("prelim_alert_answer_seconds", "From an alert to its answer, by urgency"),
    ("prelim_alert_seconds", "From the last image of a study to the first message"),
    ("prelim_gateway_call_seconds", "Calls to models, by gateway"),
    ("prelim_http_request_seconds", "HTTP requests"),
    ("prelim_step_seconds", "Tries of steps of studies, by step"),
];
