//! Two changes within one lease.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_client_that_sleeps_through_two_replacements_is_waited_for_and_without_that_its_write_would_be_lost() {
    for wait in [Duration::ZERO, FULL_WAIT] {
        let mut fixture = Fixture::new(2, 1, 3, |_| fresh()).await;
        let sleeper = store_of(&fixture.lake(&fixture.config).await).await;
        for index in [0, 1] {
            let plan = ReplacePlan { wait, ..fixture.plan(index, fresh()) };
            fixture.config = fixture.replace(&plan).await.unwrap().config;
        }
        let path = Path::from("t/a");
        let written = sleeper.put(&path, "x".into()).await;
        // The two that are new, and never saw the old locations' votes.
        let store = store_of(&fixture.lake(&fixture.without(&[2])).await).await;
        let read = store.get(&path).await;
        let not_there = matches!(read, Err(object_store::Error::NotFound { .. }));
        if wait.is_zero() {
            assert!(written.is_ok() && not_there, "the mistake is not caught: {written:?} {read:?}");
        } else {
            let error = written.unwrap_err().to_string();
            assert!(not_there && error.contains("open it again"), "{error}");
        }
    }
}
