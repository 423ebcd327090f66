package evaluator

import (
	"peftsearch/data"
	"peftsearch/data/metric"
	"peftsearch/peft"
)

// ProtocolVersion is the version of the worker protocol; docs/reference/worker-protocol.md describes
// it. Messages are JSON objects, one a line; unknown keys are ignored, unknown types are errors.
const ProtocolVersion = 2

// Message types.
const (
	TypeHello    = "hello"    // supervisor → worker, first
	TypeReady    = "ready"    // worker → supervisor, answers hello
	TypeEvaluate = "evaluate" // supervisor → worker; answered by progress…, then result or failed
	TypeProgress = "progress" // worker → supervisor; one with a score is answered by go or stop
	TypeGo       = "go"       // supervisor → worker: train on after a rung
	TypeStop     = "stop"     // supervisor → worker: end the running job at the next step
	TypeResult   = "result"
	TypeFailed   = "failed"
	TypePredict  = "predict" // supervisor → worker; answered by predictions…, or failed
	TypeScores   = "predictions"
	TypeMap      = "map" // supervisor → worker; answered by progress…, then mapped or failed
	TypeMapped   = "mapped"
)

// The values of Ready.Rungs.
const (
	RungsWait = "wait" // the worker waits at every rung for go or stop; so does "", the default
	RungsFree = "free" // it trains on, gets no go, and looks for a stop when it can
)

// Settings say how a worker computes. They do not change what a trial means.
type Settings struct {
	Device string `json:"device"` // cpu, cuda or cuda:N
	// Precision of frozen weights and activations is auto, float32 or bfloat16. With auto, trainings are in the
	// one that the device is fast in, and predictions in the one that the directory was trained in.
	Precision   string `json:"precision"`
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

// Ready says what the worker has loaded. A worker of another architecture leaves out what it does not know.
type Ready struct {
	Type        string        `json:"type"`
	Protocol    int           `json:"protocol"`
	Rungs       string        `json:"rungs,omitempty"`
	Geometry    peft.Geometry `json:"geometry"`
	Fingerprint Fingerprint   `json:"fingerprint"`
	Precision   string        `json:"precision"` // the one that auto became
	Splits      Splits        `json:"splits,omitzero"`
	Metric      *Metric       `json:"metric,omitempty"`
	Maps        bool          `json:"maps,omitempty"` // the worker answers requests for maps
}

// Waits reports whether the worker waits at rungs for the verdict.
func (r Ready) Waits() bool { return r.Rungs != RungsFree }

// Splits describes the rows that a worker has loaded.
type Splits struct {
	Train Split `json:"train"`
	Dev   Split `json:"dev"`
	Test  Split `json:"test"`
}

// Split counts the rows of one split.
type Split struct {
	Rows      int `json:"rows"`
	Truncated int `json:"truncated"` // rows that lose tokens to the task's max_length
}

// Metric is what a worker knows about the score.
type Metric struct {
	Name metric.Name `json:"name"`
	Low  float64     `json:"low"` // the range of scores
	High float64     `json:"high"`
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

// MapRequest carries a map's job.
type MapRequest struct {
	Type string `json:"type"`
	MapJob
}

// MappedReport ends a map that was made.
type MappedReport struct {
	Type  string `json:"type"`
	Trial int64  `json:"trial"`
	MapResult
}

// GoRequest answers a rung: the job goes on.
type GoRequest struct {
	Type  string `json:"type"`
	Trial int64  `json:"trial"`
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
	Trial int64  `json:"trial"`
	Failure
}

// PredictRequest scores rows with a directory that training wrote. Many rows are many requests, of which the
// supervisor sends the next when all predictions of the last one are there.
type PredictRequest struct {
	Type string     `json:"type"`
	Dir  string     `json:"dir"`
	Rows []data.Row `json:"rows"`
}

// Prediction is the model's answer for one row.
type Prediction struct {
	// Logits are the head's numbers: one for each label or choice, two for each candidate of a coreference, one for each
	// label of every word that was read, one for a regression; nil for a text.
	Logits []float64 `json:"logits"`
	Label  string    `json:"prediction"` // the answer; its parts, if it has any, with blanks between them
	// Parts of an answer: the tags of the words, the labels of a multilabel row, a coreference's answer for each
	// candidate. Nil for tasks with one answer.
	Parts []string `json:"predictions,omitempty"`
	// Gates are the values of the gates for this row, each from 0 (closed) to 1, by module: layers.0.serial.gate. Nil for
	// plans without gates.
	Gates map[string]float64 `json:"gates,omitempty"`
}

// Said is the answer: its parts, or the one that it is.
func (p Prediction) Said() []string {
	if p.Parts != nil || p.Label == "" { // a row without labels has no part
		return p.Parts
	}
	return []string{p.Label}
}

// PredictionsReport answers a PredictRequest, in the order of its rows; long answers are several of them.
type PredictionsReport struct {
	Type        string       `json:"type"`
	Predictions []Prediction `json:"predictions"`
}
