//! Asking, asking again, and giving up, with a scripted provider.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::*;
use crate::analysis::provider::Asked;
use crate::domain::picture::Picture;

struct Scripted {
    answers: Mutex<VecDeque<Result<String, AnalyzeError>>>,
    asked: Mutex<Vec<String>>,
}

impl Scripted {
    fn new(answers: Vec<Result<String, AnalyzeError>>) -> Scripted {
        Scripted { answers: Mutex::new(answers.into()), asked: Mutex::default() }
    }
}

#[async_trait::async_trait]
impl Provider for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn algorithm(&self, model: &str) -> Algorithm {
        Algorithm { version: model.into(), ..testing::algorithm() }
    }

    fn model(&self) -> &str {
        "m"
    }

    async fn ask(&self, question: &Question<'_>) -> Asked {
        self.asked.lock().unwrap().push(question.prompt.user.clone());
        let text = self.answers.lock().unwrap().pop_front().expect("asked too often");
        let tokens = Tokens { prompt: 100, completion: 10 };
        let call = Call {
            latency_ms: 5,
            outcome: text.as_ref().map_or_else(AnalyzeError::label, |_| call::ANSWERED).into(),
            cost_micro: None,
            ..from_cache(
                self,
                question,
                &RawAnswer { text: String::new(), model: "m-1".into(), tokens },
            )
        };
        let said = text.map(|text| RawAnswer { text, model: "m-1".into(), tokens });
        Asked { said, calls: vec![call] }
    }

    async fn check(&self) -> Result<(), AnalyzeError> {
        Ok(())
    }

    fn draws(&self) -> bool {
        false
    }

    fn key_views(&self) -> Vec<provider::keys::KeyView> {
        Vec::new()
    }
}

fn good() -> String {
    testing::answer(&testing::profile("chest_xray"), Vec::new()).to_string()
}

fn foreign() -> Result<String, AnalyzeError> {
    Ok(good().replace("\"impression\":\"\"", "\"impression\":\"左侧气胸，请结合临床。\""))
}

fn bad(why: BadAnswer) -> Result<String, AnalyzeError> {
    Err(AnalyzeError::BadAnswer { provider: "scripted".into(), why })
}

async fn run(
    script: Vec<Result<String, AnalyzeError>>,
) -> (Result<Reading, AnalyzeError>, Vec<String>) {
    let profile = testing::profile("chest_xray");
    let study = testing::study("CR", "CHEST", "PA", "");
    let context = crate::domain::context::ClinicalContext::of(&study, None);
    let references = testing::pictures(&study);
    let prompt = prompt::render(&profile, &context, &study, &references).unwrap();
    let pictures: Vec<Picture> = references
        .into_iter()
        .map(|reference| Picture { reference, media_type: "image/jpeg", bytes: vec![1, 2, 3] })
        .collect();
    let provider = Scripted::new(script);
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), &cache::Config::default()).unwrap();
    let (schema, timeout) = (answer::schema(&profile), Duration::from_secs(9));
    let question = Question { prompt: &prompt, pictures: &pictures, schema: &schema, timeout };
    let (now, mut calls) = (Timestamp::UNIX_EPOCH, Vec::new());
    let result = ask(&provider, Some(&cache), question, now, &mut calls).await;
    assert_eq!(calls.len(), provider.asked.lock().unwrap().len(), "each call is taken down");
    if let Ok(reading) = &result
        && judge::is_in_english(&reading.answer)
    {
        let mut calls = Vec::new();
        let again: Reading = ask(&provider, Some(&cache), question, now, &mut calls).await.unwrap();
        assert!(again.log.cached && calls[0].is_cached(), "what was answered is not asked again");
        assert_eq!(again.answer, reading.answer);
    }
    (result, provider.asked.into_inner().unwrap())
}

#[tokio::test]
async fn a_good_answer_is_a_reading_with_its_log() {
    let (reading, asked) = run(vec![Ok(good())]).await;
    let reading = reading.unwrap();
    assert_eq!((asked.len(), reading.log.repaired), (1, false));
    assert_eq!((reading.log.tokens.prompt, reading.log.latency_ms), (100, 5));
    assert_eq!(reading.log.pictures.len(), 2);
    assert!(
        reading.algorithm.parameters.iter().any(|p| p.starts_with("prompt=chest_xray/2 sha256:"))
    );
    let kept = serde_json::to_string(&reading).unwrap();
    assert_eq!(serde_json::from_str::<Reading>(&kept).unwrap(), reading);
}

#[tokio::test]
async fn a_bad_answer_is_asked_for_once_more_with_its_problems() {
    let first = good().replace("\"confidence\":0.8", "\"confidence\":1.7");
    for first in [
        Ok(first),
        Ok("I see nothing.".into()),
        foreign(),
        bad(BadAnswer::Cut),
        bad(BadAnswer::Empty),
        bad(BadAnswer::Refusal),
    ] {
        let (reading, asked) = run(vec![first, Ok(good())]).await;
        let reading = reading.unwrap();
        assert!(reading.log.repaired && asked.len() == 2);
        assert!(
            asked[1].starts_with(&asked[0]) && asked[1].contains("could not be used:\n- "),
            "{}",
            asked[1]
        );
    }
}

/// A6, A8: two unusable answers are no reading. The study needs a person.
#[tokio::test]
async fn two_bad_answers_are_unreadable() {
    let (error, asked) = run(vec![Ok("null".into()), Ok("{}".into())]).await;
    let error = error.unwrap_err();
    assert!(matches!(error, AnalyzeError::Unreadable { .. }), "{error}");
    assert!(error.is_for_review() && !error.is_transient() && asked.len() == 2);
}

/// A14: what stays in another language is read for what is coded in it; judging gives it to a person.
#[tokio::test]
async fn an_answer_in_another_language_is_not_lost() {
    let busy = AnalyzeError::Busy {
        provider: "scripted".into(),
        status: 503,
        retry_after: None,
        words: String::new(),
    };
    for second in [foreign(), Ok("prose".into()), Err(busy), bad(BadAnswer::Refusal)] {
        let (reading, asked) = run(vec![foreign(), second]).await;
        let reading = reading.unwrap();
        assert!(reading.log.repaired && asked.len() == 2);
        assert!(asked[1].contains("not in English"), "{}", asked[1]);
        assert!(!judge::is_in_english(&reading.answer));
    }
}

#[tokio::test]
async fn a_reading_is_calibrated_and_says_so() {
    let (reading, _) = run(vec![Ok(good())]).await;
    let table = [("pneumothorax".to_owned(), vec![[0.0, 0.0], [0.1, 0.5]])].into();
    let reading = reading.unwrap().calibrated(&table);
    let said =
        |key: &str| reading.answer.findings.iter().find(|f| f.key == key).map(|f| f.probability);
    assert_eq!((said("pneumothorax"), said("nodule")), (Some(0.25), Some(0.05)));
    assert!(reading.algorithm.parameters.contains(&"calibrated=pneumothorax".to_owned()));
}

/// A9: two refusals are for a person; a filter and a tool call are not asked again.
#[tokio::test]
async fn a_filter_is_not_asked_again() {
    let (error, asked) = run(vec![bad(BadAnswer::Refusal), bad(BadAnswer::Refusal)]).await;
    assert!(error.unwrap_err().is_for_review() && asked.len() == 2);
    for why in [BadAnswer::Filtered, BadAnswer::ToolCall, BadAnswer::TooLarge] {
        let (error, asked) = run(vec![bad(why)]).await;
        assert!(error.unwrap_err().is_for_review() && asked.len() == 1, "{why}");
    }
}

#[tokio::test]
async fn what_the_queue_mends_goes_to_the_queue() {
    let busy = AnalyzeError::Busy {
        provider: "scripted".into(),
        status: 503,
        retry_after: None,
        words: String::new(),
    };
    let (error, asked) = run(vec![Err(busy.clone())]).await;
    assert_eq!((error.unwrap_err(), asked.len()), (busy, 1));
}

#[test]
fn smaller_pictures_have_an_end() {
    let mut plan = PicturePlan { edge_max_px: 2048, ..PicturePlan::default() };
    let mut edges = Vec::new();
    while let Some(next) = smaller(&plan) {
        edges.push(next.edge_max_px);
        plan = next;
    }
    assert_eq!(edges, [1024, 512, 256]);
}
