package evaluator

import (
	"peftsearch/data"
	"peftsearch/peft"
)

// ProtocolVersion is the version of the worker protocol; docs/reference/worker-protocol.md describes
// it. Messages are JSON objects, one a line; unknown keys are ignored, unknown types are errors.
const ProtocolVersion = 1

// Message types.
const (
	TypeHello    = "hello"    // supervisor → worker, first
	TypeReady    = "ready"    // worker → supervisor, answers hello
	TypeEvaluate = "evaluate" // supervisor → worker; answered by progress…, then result or failed
	TypeProgress = "progress"
	TypeStop     = "stop" // supervisor → worker: end the running job at the next step
	TypeResult   = "result"
	TypeFailed   = "failed"
	TypePredict  = "predict" // supervisor → worker; answered by predictions or failed
	TypeScores   = "predictions"
)

// Settings say how a worker computes. They do not change what a trial means.
type Settings struct {
	Device      string `json:"device"`       // cpu, cuda or cuda:N
	Precision   string `json:"precision"`    // auto, float32 or bfloat16: of frozen weights and activations
	Threads     int    `json:"threads"`      // of libtorch, at least 1
	CacheMemory int64  `json:"cache_memory"` // bytes for hidden states of frozen layers that are not in files
	CacheDisk   int64  `json:"cache_disk"`   // bytes of files for them, of all workers together; 0 writes none
}

// Head names what is put on the backbone for the task.
type Head string

// The heads. Both read the last hidden state of the first token.
const (
	HeadLinear Head = "linear" // W·h + c
	HeadDense  Head = "dense"  // W·tanh(W_p·h + c_p) + c, all trained
)

// Hello starts a session: the worker loads the model and the data once.
type Hello struct {
	Type     string    `json:"type"`
	Protocol int       `json:"protocol"`
	Model    string    `json:"model"` // Hugging Face directory
	Head     Head      `json:"head"`
	Task     data.Task `json:"task"`
	Settings Settings  `json:"settings"`
}

// Ready says what the worker has loaded.
type Ready struct {
	Type        string        `json:"type"`
	Protocol    int           `json:"protocol"`
	Geometry    peft.Geometry `json:"geometry"`
	Fingerprint Fingerprint   `json:"fingerprint"`
	Precision   string        `json:"precision"` // the one that auto became
}

// Fingerprint identifies the inputs of a study: SHA-256 in hexadecimal.
type Fingerprint struct {
	Model string `json:"model"`
	Data  string `json:"data"`
}

// EvaluateRequest carries a job.
type EvaluateRequest struct {
	Type string `json:"type"`
	Job
}

// StopRequest ends the running job; its result is reported with the reason.
type StopRequest struct {
	Type   string `json:"type"`
	Trial  int64  `json:"trial"`
	Reason string `json:"reason"`
}

// ProgressReport carries progress of the running job.
type ProgressReport struct {
	Type  string `json:"type"`
	Trial int64  `json:"trial"`
	Progress
}

// ResultReport ends a job that was trained.
type ResultReport struct {
	Type  string `json:"type"`
	Trial int64  `json:"trial"`
	Result
}

// FailedReport ends a job, a prediction or a hello that failed.
type FailedReport struct {
	Type  string `json:"type"`
	Trial int64  `json:"trial,omitempty"`
	Failure
}

// PredictRequest scores rows with a directory that training wrote.
type PredictRequest struct {
	Type string     `json:"type"`
	Dir  string     `json:"dir"`
	Rows []data.Row `json:"rows"`
	// Precision is that of the computation; empty for the one in which the directory was trained.
	Precision string `json:"precision,omitempty"`
}

// Prediction is the model's answer for one row.
type Prediction struct {
	Logits []float64 `json:"logits"` // one per label; one number for regression
	Label  string    `json:"prediction"`
}

// PredictionsReport answers a PredictRequest, in the order of its rows.
type PredictionsReport struct {
	Type        string       `json:"type"`
	Predictions []Prediction `json:"predictions"`
}
