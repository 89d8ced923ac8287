package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"github.com/towpath-dataplane/towpath/sdk"
)

// store makes requests for the bucket of one address. It is safe for concurrent use.
type store struct {
	*place
	env    *environment
	client *s3.Client
}

// open returns the store of a place. The connections behind it are those of all flows.
func (env *environment) open(p *place) *store {
	o := s3.Options{
		Region:                      p.region,
		Credentials:                 p.credentials,
		HTTPClient:                  env.http,
		UsePathStyle:                p.pathStyle,
		AppID:                       "towpath-s3/" + version,
		Logger:                      logging.Nop{},
		Retryer:                     newRetryer(true),
		RequestChecksumCalculation:  aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation:  aws.ResponseChecksumValidationWhenRequired,
		DisableS3ExpressSessionAuth: aws.Bool(true),
	}
	if p.endpoint != nil {
		base := url.URL{Scheme: p.endpoint.Scheme, Host: p.endpoint.Host, Path: p.endpoint.Path}
		o.BaseEndpoint = aws.String(base.String())
	}
	return &store{place: p, env: env, client: s3.New(o)}
}

// newRetryer tries again where the library does, and, unless broken is false, after any broken connection: it takes care not to repeat what
// would happen twice, but nearly all that this plugin asks for can be repeated. What the policy refuses is not tried again.
func newRetryer(broken bool) aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = 4
		own := retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
			var known *sdk.Error
			var network net.Error
			switch {
			case errors.As(err, &known), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
				return aws.FalseTernary
			case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
				return aws.BoolTernary(broken && !isTLSRefusal(err))
			}
			return aws.UnknownTernary
		})
		o.Retryables = append([]retry.IsErrorRetryable{own}, o.Retryables...)
	})
}

// askFirst has the store say what it thinks of a conditional request before the body is sent. Otherwise the answer of one that refuses
// and hangs up can be lost.
func askFirst(o *s3.Options) { o.ContinueHeaderThresholdBytes = 1 }

// onlyOnce has a request not repeated whose answer was lost, because it would happen twice.
func onlyOnce(o *s3.Options) { o.Retryer = newRetryer(false) }

// outlive returns a context that goes on for a while after ctx has ended: for requests that begin something, of which it should be known
// whether they have.
func outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	return longer, func() { stop(); cancel() }
}

// put stores a small object of the plugin's own.
func (s *store) put(ctx context.Context, key string, content *blocks, metadata map[string]string) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	longer, cancel := outlive(ctx)
	defer cancel()
	_, err := s.client.PutObject(longer, &s3.PutObjectInput{
		Bucket: &s.bucket, Key: &key, Body: content.reader(), ContentLength: aws.Int64(content.n), Metadata: metadata,
	})
	return s.failure(ctx, err, "write", key)
}

// get reads the first n bytes of an object of the plugin's own.
func (s *store) get(ctx context.Context, key string, n int64, into *blocks) error {
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: &key})
	if err != nil {
		return s.failure(ctx, err, "read", key)
	}
	defer out.Body.Close()
	if err := into.fill(out.Body, n); err == io.ErrUnexpectedEOF && aws.ToInt64(out.ContentLength) < n {
		return sdk.Errorf(sdk.Corrupt, "%q has %d bytes, not the %d that were written", s.location(key), aws.ToInt64(out.ContentLength), n)
	} else if err != nil {
		return s.failure(ctx, err, "read", key)
	}
	return nil
}

// remove removes an object. It does not matter whether it is there.
func (s *store) remove(ctx context.Context, key string) error {
	_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: &key})
	if isMissing(err) {
		return nil
	}
	return s.failure(ctx, err, "remove", key)
}
