// Command onnx labels lines of text with a model that peftsearch exported: go run . DIRECTORY < TEXTS
//
// A line is a text, or two texts with a tab between them. ONNXRUNTIME names ONNX Runtime's shared library.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	ort "github.com/yalue/onnxruntime_go"

	"peftsearch/data/tokenizer"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("give the directory that peftsearch export --to onnx wrote")
	}
	if err := run(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(dir string) error {
	tok, err := tokenizer.Load(dir)
	if err != nil {
		return err
	}
	labels, longest, err := settings(dir)
	if err != nil {
		return err
	}
	ort.SetSharedLibraryPath(os.Getenv("ONNXRUNTIME"))
	if err := ort.InitializeEnvironment(); err != nil {
		return err
	}
	defer ort.DestroyEnvironment()
	path := filepath.Join(dir, "onnx", "model.onnx")
	infos, _, err := ort.GetInputOutputInfo(path)
	if err != nil {
		return err
	}
	var inputs []string
	for _, info := range infos {
		inputs = append(inputs, info.Name)
	}
	session, err := ort.NewDynamicAdvancedSession(path, inputs, []string{"logits"}, nil)
	if err != nil {
		return err
	}
	defer session.Destroy()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		row := tok.Encode(longest, strings.SplitN(lines.Text(), "\t", 2)...)
		logits, err := score(session, inputs, row)
		if err != nil {
			return err
		}
		fmt.Println(say(labels, logits), lines.Text())
	}
	return lines.Err()
}

// settings are the labels, none for a regression, and the longest input.
func settings(dir string) (labels []string, longest int, err error) {
	var config struct {
		Problem string            `json:"problem_type"`
		Labels  map[string]string `json:"id2label"`
	}
	var tokens struct {
		Longest int `json:"model_max_length"`
	}
	for name, into := range map[string]any{"config.json": &config, "tokenizer_config.json": &tokens} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = json.Unmarshal(content, into)
		}
		if err != nil {
			return nil, 0, err
		}
	}
	for i := range len(config.Labels) {
		labels = append(labels, config.Labels[strconv.Itoa(i)])
	}
	if config.Problem == "regression" {
		labels = nil
	}
	return labels, tokens.Longest, nil
}

// score is the logits of one row.
func score(session *ort.DynamicAdvancedSession, names []string, row tokenizer.Encoding) ([]float32, error) {
	length := len(row.IDs)
	var inputs []ort.Value
	for _, name := range names {
		values := make([]int64, length)
		for i := range values {
			switch name {
			case "input_ids":
				values[i] = int64(row.IDs[i])
			case "token_type_ids":
				values[i] = int64(row.TypeIDs[i])
			default: // attention_mask: a row alone has no padding
				values[i] = 1
			}
		}
		tensor, err := ort.NewTensor(ort.NewShape(1, int64(length)), values)
		if err != nil {
			return nil, err
		}
		defer tensor.Destroy()
		inputs = append(inputs, tensor)
	}
	outputs := []ort.Value{nil}
	if err := session.Run(inputs, outputs); err != nil {
		return nil, err
	}
	defer outputs[0].Destroy()
	return slices.Clone(outputs[0].(*ort.Tensor[float32]).GetData()), nil
}

func say(labels []string, logits []float32) string {
	if labels == nil {
		return fmt.Sprintf("%.4g", logits[0])
	}
	best := 0
	for i, v := range logits {
		if v > logits[best] {
			best = i
		}
	}
	return labels[best]
}
