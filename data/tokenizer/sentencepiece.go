package tokenizer

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"peftsearch/data/quote"
)

// pieceModel is what is used of a SentencePiece model: sentencepiece_model.proto of google/sentencepiece.
type pieceModel struct {
	pieces       []scoredPiece
	added        []addedToken // control and user-defined pieces
	kind         uint64
	unknown      int // index of the unknown piece
	unknownPiece string
	charsmap     []byte
}

// The supported values of trainer_spec.model_type.
const (
	kindUnigram = 1
	kindBPE     = 2
)

// The numbers of the fields that are read.
const (
	fieldPieces           = 1
	fieldTrainer          = 2
	fieldNormalizer       = 3
	fieldPieceText        = 1
	fieldPieceScore       = 2
	fieldPieceType        = 3
	fieldTrainerModelType = 3
	fieldTrainerUnkID     = 40
	fieldTrainerUnkPiece  = 45
	fieldCharsmap         = 2
)

// The types of pieces that are matched as a whole.
const (
	pieceControl     = 3
	pieceUserDefined = 4
)

func readPieces(path string) (*pieceModel, error) {
	content, err := readFile(path)
	if err != nil {
		return nil, err
	}
	p, err := parsePieces(content)
	if err != nil {
		return nil, fmt.Errorf("%s is no SentencePiece model: %w", path, err)
	}
	return p, nil
}

func parsePieces(content []byte) (*pieceModel, error) {
	p := &pieceModel{kind: kindUnigram, unknownPiece: "<unk>"}
	err := fields(content, func(number protowire.Number, value field) error {
		switch number {
		case fieldPieces:
			return p.addPiece(value.bytes)
		case fieldTrainer:
			return fields(value.bytes, func(number protowire.Number, value field) error {
				switch number {
				case fieldTrainerModelType:
					p.kind = value.number
				case fieldTrainerUnkID:
					p.unknown = int(int32(value.number))
				case fieldTrainerUnkPiece:
					p.unknownPiece = string(value.bytes)
				}
				return nil
			})
		case fieldNormalizer:
			return fields(value.bytes, func(number protowire.Number, value field) error {
				if number == fieldCharsmap {
					p.charsmap = value.bytes
				}
				return nil
			})
		}
		return nil
	})
	if err == nil && len(p.pieces) == 0 {
		err = errors.New("it has no pieces")
	}
	return p, err
}

func (p *pieceModel) addPiece(content []byte) error {
	var piece scoredPiece
	kind := uint64(0)
	err := fields(content, func(number protowire.Number, value field) error {
		switch number {
		case fieldPieceText:
			piece.piece = string(value.bytes)
		case fieldPieceScore:
			piece.score = float64(math.Float32frombits(uint32(value.number)))
		case fieldPieceType:
			kind = value.number
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case !utf8.ValidString(piece.piece):
		return fmt.Errorf("piece %d is not UTF-8", len(p.pieces))
	case math.IsNaN(piece.score) || math.IsInf(piece.score, 0):
		return fmt.Errorf("piece %s has the score %g", quote.Text(piece.piece), piece.score)
	}
	p.pieces = append(p.pieces, piece)
	if kind == pieceControl || kind == pieceUserDefined {
		p.added = append(p.added, addedToken{Content: piece.piece, Special: kind == pieceControl})
	}
	return nil
}

// field is a value of a message: bytes of a string or of a message within it, or a number.
type field struct {
	bytes  []byte
	number uint64
}

// fields calls visit for every field of a message.
func fields(message []byte, visit func(number protowire.Number, value field) error) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		var value field
		switch kind {
		case protowire.VarintType:
			value.number, n = protowire.ConsumeVarint(message)
		case protowire.Fixed32Type:
			var number uint32
			number, n = protowire.ConsumeFixed32(message)
			value.number = uint64(number)
		case protowire.BytesType:
			value.bytes, n = protowire.ConsumeBytes(message)
		default:
			n = protowire.ConsumeFieldValue(number, kind, message)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		if err := visit(number, value); err != nil {
			return err
		}
	}
	return nil
}

// merges are the pairs of pieces that make up another one. Those of likely pieces go first; those of one piece are in
// the order of their parts.
func (p *pieceModel) merges(vocabulary []scoredPiece) mergesSpec {
	type candidate struct {
		pair  [2]string
		score float64
	}
	ids, scores := make(map[string]int, len(p.pieces)), make(map[string]float64, len(vocabulary))
	for i, piece := range p.pieces {
		ids[piece.piece] = i
	}
	var order []string
	for _, piece := range vocabulary {
		if _, ok := scores[piece.piece]; !ok {
			order = append(order, piece.piece)
		}
		scores[piece.piece] = piece.score
	}
	var all []candidate
	for _, piece := range order {
		first := len(all)
		for i := range piece {
			left, right := piece[:i], piece[i:]
			_, okLeft := ids[left]
			_, okRight := ids[right]
			if i > 0 && okLeft && okRight {
				all = append(all, candidate{[2]string{left, right}, scores[piece]})
			}
		}
		slices.SortStableFunc(all[first:], func(a, b candidate) int {
			return cmp.Or(cmp.Compare(ids[a.pair[0]], ids[b.pair[0]]), cmp.Compare(ids[a.pair[1]], ids[b.pair[1]]))
		})
	}
	// Python sorts by score and the lengths of both parts, largest first; equals keep their order.
	slices.SortStableFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.score, a.score),
			cmp.Compare(utf8.RuneCountInString(b.pair[0]), utf8.RuneCountInString(a.pair[0])),
			cmp.Compare(utf8.RuneCountInString(b.pair[1]), utf8.RuneCountInString(a.pair[1])))
	})
	merges := make(mergesSpec, len(all))
	for i, c := range all {
		merges[i] = c.pair
	}
	return merges
}
