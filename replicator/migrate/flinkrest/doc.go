// Package flinkrest asks a Flink JobManager's REST API the few things that moving a job needs: which jobs run, stop one
// with a savepoint, cancel one, and where its last checkpoint lies.
//
// It stops jobs, so it must never ask for that twice in a way that Flink takes for two: a stop has an id that its caller
// chose and wrote down before (StopWithSavepoint), and cancelling a job that is cancelled is done already. It holds no
// state and retries nothing: who calls decides by the error. Paths and field names are those of Flink 1.13 to 2.3
// (org.apache.flink.runtime.rest.messages), and the tests have what a real Flink 1.20 answered.
//
// Start at Client in client.go.
package flinkrest
