//! Answers what comes on the DICOM port and is no instance: storage commitment and performed
//! procedure steps. What is answered with success is in the ledger.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use async_trait::async_trait;
use dicom_dictionary_std::uids;
use jiff::SignedDuration;
use sha2::Digest as _;
use sha2::Sha256;

use crate::dicom::mpps;
use crate::dicom::mpps::StepStatus;
use crate::dicom::service::Operation;
use crate::dicom::service::Report;
use crate::dicom::service::ServiceAnswer;
use crate::dicom::service::ServiceHandler;
use crate::dicom::service::ServiceRequest;
use crate::dicom::status::Status;
use crate::dicom::storage_commitment;
use crate::dicom::storage_commitment::Outcome;
use crate::domain::clock::Clock;
use crate::domain::text;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::domain::uid::TransactionUid;
use crate::pipeline::commitment;
use crate::pipeline::job;
use crate::pipeline::proving;
use crate::pipeline::way::Kits;
use crate::store::CommitmentRow;
use crate::store::JobState;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::event::Event;
use crate::store::event::JobKind;
use crate::store::event::JobOutcome;
use crate::store::event::Source;
use crate::store::event::StepState;

/// How long the requester's own association has for the report before it is called.
const OWN_ASSOCIATION: SignedDuration = SignedDuration::from_secs(15);

pub struct Services {
    kits: Arc<Kits>,
    store: Store,
    clock: Arc<dyn Clock>,
    /// One at a time decides what is there already.
    turn: tokio::sync::Mutex<()>,
    /// Reports that are out on the requester's association: how many are kept, how many not.
    out: Mutex<HashMap<String, (u32, u32)>>,
}

type Refused = ServiceAnswer;

impl Services {
    pub fn new(kits: Arc<Kits>) -> Services {
        let kit = kits.now();
        let (store, clock) = (kit.store.clone(), Arc::clone(&kit.clock));
        let (turn, out) = (tokio::sync::Mutex::new(()), Mutex::new(HashMap::new()));
        Services { kits, store, clock, turn, out }
    }

    async fn commit(&self, events: Vec<Event>) -> Result<(), Refused> {
        self.store.commit(events).await.map_err(|error| unkept(&error))
    }

    async fn request_commitment(&self, request: &ServiceRequest) -> Result<ServiceAnswer, Refused> {
        if request.operation != (Operation::Action { action_type: storage_commitment::REQUEST }) {
            let why = "storage commitment knows action 1 alone";
            return Err(ServiceAnswer::refused(Status::NO_SUCH_ACTION, why));
        }
        if request.sop_instance_uid != storage_commitment::WELL_KNOWN_INSTANCE {
            let why = "not the well-known instance";
            return Err(ServiceAnswer::refused(Status::NO_SUCH_SOP_INSTANCE, why));
        }
        let syntax = &request.transfer_syntax_uid;
        let asked = storage_commitment::Request::read(&request.data_set, syntax)
            .map_err(|(status, why)| ServiceAnswer::refused(status, why))?;
        self.check_space().await?;
        let key = request_key(request, &asked);
        let transaction_uid = asked.transaction_uid;
        let _turn = self.turn.lock().await;
        let store = &self.store;
        let before = store.commitment(&transaction_uid, &key).map_err(|error| unkept(&error))?;
        let requests = before.map_or(0, |row| row.requests) + 1;
        let known = asked.references.iter().find_map(|(_, sop)| store.instance(sop).ok().flatten());
        let study_uid = match known {
            Some(row) => row.receipt.study_uid,
            None => StudyUid::derived(&["commitment", transaction_uid.as_str()]),
        };
        let at = self.clock.now();
        let same = self.kits.now().commitment.same_association;
        let due = if same { at.saturating_add(OWN_ASSOCIATION).unwrap_or(at) } else { at };
        let count = asked.references.len();
        let job = job_of(&transaction_uid, &key, requests, &study_uid, due);
        let id = job.id.clone();
        self.commit(vec![
            Event::CommitmentRequested {
                transaction_uid: transaction_uid.clone(),
                request: key.clone(),
                study_uid,
                from: source(request),
                references: asked.references,
                at,
            },
            Event::JobEnqueued { job },
        ])
        .await?;
        tracing::info!(transaction = %transaction_uid, instances = count, "storage commitment requested");
        let report = same.then(|| format!("{transaction_uid} {key} {id}"));
        Ok(ServiceAnswer { report, ..ServiceAnswer::success() })
    }

    /// An archive's report on what we have sent it.
    async fn take_report(&self, request: &ServiceRequest) -> Result<ServiceAnswer, Refused> {
        let outcome = Outcome::read(&request.data_set, &request.transfer_syntax_uid)
            .map_err(|(status, why)| ServiceAnswer::refused(status, why))?;
        let transaction_uid = outcome.transaction_uid.clone();
        let row = self.store.proof(&transaction_uid).map_err(|error| unkept(&error))?;
        let Some(row) = row else {
            let why = "no such transaction was asked for here";
            return Err(ServiceAnswer::refused(Status::INVALID_ARGUMENT, why));
        };
        let at = self.clock.now();
        self.commit(vec![
            proving::answered(&outcome, at),
            Event::JobRetried { id: row.job, by: String::new(), at },
        ])
        .await?;
        Ok(ServiceAnswer::success())
    }

    /// Refuses below the low-water mark, as receiving does.
    async fn check_space(&self) -> Result<(), Refused> {
        let store = self.store.clone();
        let looked = tokio::task::spawn_blocking(move || store.begin_object().map(drop)).await;
        looked.unwrap_or(Err(StoreError::Closed)).map_err(|error| unkept(&error))
    }

    async fn create_step(&self, request: &ServiceRequest) -> Result<ServiceAnswer, Refused> {
        let created = mpps::Created::read(&request.data_set, &request.transfer_syntax_uid)
            .map_err(|(status, why)| ServiceAnswer::refused(status, why))?;
        self.check_space().await?;
        let at = self.clock.now();
        let given = request.sop_instance_uid.as_str();
        let step_uid = match given.is_empty() {
            true => {
                let parts = [request.association.as_str(), &at.to_string(), &rand_word()];
                SopInstanceUid::derived(&parts)
            }
            false => SopInstanceUid::parse(given).map_err(|_| {
                ServiceAnswer::refused(Status::INVALID_ATTRIBUTE, "bad SOP Instance UID")
            })?,
        };
        let _turn = self.turn.lock().await;
        if self.store.step(&step_uid).map_err(|error| unkept(&error))?.is_some() {
            let why = "this performed procedure step was created before";
            return Err(ServiceAnswer::refused(Status::DUPLICATE_SOP_INSTANCE, why));
        }
        self.commit(vec![Event::StepCreated {
            step_uid: step_uid.clone(),
            studies: created.studies,
            modality: created.modality,
            instances: created.instances,
            from: source(request),
            at,
        }])
        .await?;
        metrics::counter!("prelim_procedure_steps_total", "what" => "created").increment(1);
        let sop_instance_uid = given.is_empty().then(|| step_uid.to_string());
        Ok(ServiceAnswer { sop_instance_uid, ..ServiceAnswer::success() })
    }

    async fn set_step(&self, request: &ServiceRequest) -> Result<ServiceAnswer, Refused> {
        let unknown =
            || ServiceAnswer::refused(Status::NO_SUCH_SOP_INSTANCE, "no such procedure step");
        let step_uid = SopInstanceUid::parse(&request.sop_instance_uid).map_err(|_| unknown())?;
        let changed = mpps::Changed::read(&request.data_set, &request.transfer_syntax_uid)
            .map_err(|(status, why)| ServiceAnswer::refused(status, why))?;
        self.check_space().await?;
        let _turn = self.turn.lock().await;
        let row = self.store.step(&step_uid).map_err(|error| unkept(&error))?;
        let row = row.ok_or_else(unknown)?;
        if row.state.is_over() {
            let why = "Performed Procedure Step may no longer be updated";
            let error_id = Some(mpps::MAY_NO_LONGER_BE_UPDATED);
            let refused = ServiceAnswer::refused(Status::PROCESSING_FAILURE, why);
            return Err(ServiceAnswer { error_id, ..refused });
        }
        let state = match changed.status {
            Some(StepStatus::InProgress) => StepState::InProgress,
            Some(StepStatus::Completed) => StepState::Completed,
            Some(StepStatus::Discontinued) => StepState::Discontinued,
            None => row.state,
        };
        let (instances, at) = (changed.instances, self.clock.now());
        self.commit(vec![Event::StepChanged { step_uid, state, instances, at }]).await?;
        if state.is_over() {
            metrics::counter!("prelim_procedure_steps_total", "what" => state.as_str())
                .increment(1);
        }
        Ok(ServiceAnswer::success())
    }

    /// The row that a report's id names, while the result is not reported yet.
    fn pending(&self, id: &str) -> Option<(CommitmentRow, String)> {
        let mut parts = id.splitn(3, ' ');
        let transaction = TransactionUid::parse(parts.next()?).ok()?;
        let (key, job) = (parts.next()?, parts.next()?);
        let row = self.store.commitment(&transaction, key).ok()??;
        row.reported_at.is_none().then(|| (row, job.to_owned()))
    }
}

#[async_trait]
impl ServiceHandler for Services {
    async fn serve(&self, request: ServiceRequest) -> ServiceAnswer {
        let answer = match (request.sop_class_uid.as_str(), request.operation) {
            (uids::STORAGE_COMMITMENT_PUSH_MODEL, Operation::Action { .. }) => {
                self.request_commitment(&request).await
            }
            (uids::STORAGE_COMMITMENT_PUSH_MODEL, Operation::EventReport { .. }) => {
                self.take_report(&request).await
            }
            (uids::MODALITY_PERFORMED_PROCEDURE_STEP, Operation::Create) => {
                self.create_step(&request).await
            }
            (uids::MODALITY_PERFORMED_PROCEDURE_STEP, Operation::Set) => {
                self.set_step(&request).await
            }
            (_, _) => {
                let why = "this SOP class has no such operation";
                Err(ServiceAnswer::refused(Status::UNRECOGNIZED_OPERATION, why))
            }
        };
        answer.unwrap_or_else(|refused| refused)
    }

    async fn report(&self, id: &str, transfer_syntax_uid: &str) -> Option<Report> {
        let (row, _) = self.pending(id)?;
        let outcome = commitment::look_up(&self.store, row).await.ok()?;
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.insert(id.to_owned(), commitment::counts(&outcome));
        Some(outcome.report(transfer_syntax_uid))
    }

    async fn reported(&self, id: &str, status: Option<Status>) {
        let counts = self.out.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        let Some((row, job)) = self.pending(id) else { return };
        let at = self.clock.now();
        let events = match (status, counts) {
            (Some(Status::SUCCESS), Some(counts)) => {
                let detail = "on its own association".to_owned();
                let outcome = JobOutcome::Done;
                vec![
                    commitment::reported(&self.kits.now(), &row, counts, detail),
                    Event::JobEnded { id: job, outcome, at },
                ]
            }
            // It left before, or did not want it there: it is called now.
            (_, _) => match self.store.job(&job) {
                Ok(Some(waiting)) if waiting.state == JobState::Waiting => {
                    vec![Event::JobRetried { id: job, by: String::new(), at }]
                }
                Ok(_) | Err(_) => return,
            },
        };
        if let Err(error) = self.store.commit(events).await {
            tracing::warn!(%error, "a report's end cannot be kept; the requester is told again");
        }
    }
}

/// Tells requests of one transaction apart: the same peer with the same list is the same request,
/// sent again because it heard no answer.
fn request_key(request: &ServiceRequest, asked: &storage_commitment::Request) -> String {
    let mut hash = Sha256::new();
    hash.update(request.calling_ae.as_bytes());
    for (class, instance) in &asked.references {
        hash.update([0]);
        hash.update(class.as_str());
        hash.update([0]);
        hash.update(instance.as_str());
    }
    text::hex(&hash.finalize()[..8])
}

fn job_of(
    transaction_uid: &TransactionUid,
    key: &str,
    requests: u32,
    study_uid: &StudyUid,
    due: jiff::Timestamp,
) -> crate::store::event::Job {
    let (transaction_uid, request) = (transaction_uid.clone(), key.to_owned());
    let mut job = job::job(JobKind::Commit { transaction_uid, request }, study_uid, 0, due);
    if requests > 1 {
        job.id = format!("{}/{requests}", job.id);
    }
    job
}

fn source(request: &ServiceRequest) -> Source {
    Source {
        calling_ae: request.calling_ae.clone(),
        called_ae: request.called_ae.clone(),
        address: request.peer.to_string(),
        association: request.association.clone(),
    }
}

fn rand_word() -> String {
    format!("{:x}", rand::random::<u128>())
}

/// The store's errors: all say "later".
fn unkept(error: &StoreError) -> ServiceAnswer {
    match error.is_out_of_space() {
        true => ServiceAnswer::refused(Status::RESOURCE_LIMITATION, "no space left to keep it"),
        false => {
            tracing::error!(%error, "a request could not be kept");
            ServiceAnswer::refused(Status::PROCESSING_FAILURE, "it cannot be kept now")
        }
    }
}
