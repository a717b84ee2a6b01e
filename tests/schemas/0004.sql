BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0004');
CREATE TABLE attempt (
	id INTEGER NOT NULL, 
	file_id INTEGER NOT NULL, 
	model_id INTEGER NOT NULL, 
	at_us BIGINT NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	reason_id INTEGER NOT NULL, 
	CONSTRAINT pk_attempt PRIMARY KEY (id), 
	CONSTRAINT fk_attempt_file_id FOREIGN KEY(file_id) REFERENCES file (id), 
	CONSTRAINT fk_attempt_model_id FOREIGN KEY(model_id) REFERENCES model (id), 
	CONSTRAINT fk_attempt_reason_id FOREIGN KEY(reason_id) REFERENCES reason (id)
);
INSERT INTO "attempt" VALUES(1,2,1,1790000000000000,'permanent',2);
INSERT INTO "attempt" VALUES(2,3,1,1790000000000000,'transient',3);
CREATE TABLE file (
	id INTEGER NOT NULL, 
	folder_id INTEGER NOT NULL, 
	name BLOB NOT NULL, 
	size BIGINT NOT NULL, 
	mtime_ns BIGINT NOT NULL, 
	inode BIGINT NOT NULL, 
	state SMALLINT NOT NULL, 
	attempts SMALLINT NOT NULL, 
	first_seen_us BIGINT NOT NULL, 
	not_before_us BIGINT, 
	previous_id BIGINT, 
	move SMALLINT, 
	moved_to BLOB, 
	move_attempts SMALLINT, 
	move_not_before_us BIGINT, 
	move_trouble TEXT, 
	CONSTRAINT pk_file PRIMARY KEY (id), 
	CONSTRAINT fk_file_folder_id FOREIGN KEY(folder_id) REFERENCES folder (id)
);
INSERT INTO "file" VALUES(1,1,X'612E706E67',7000,1,1,1,0,1790000000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "file" VALUES(2,1,X'746578742E706E67',7000,1,1,2,1,1790000000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "file" VALUES(3,1,X'616761696E2E706E67',7000,1,1,0,1,1790000000000000,1790000001000000,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "file" VALUES(4,1,X'6E65772E706E67',7000,1,1,0,0,1790000000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "file" VALUES(5,2,X'FF2E706E67',7000,1,1,3,0,1790000000000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "file" VALUES(6,2,X'FF2E706E67',8000,1,1,1,0,1790000000000000,NULL,5,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE folder (
	id INTEGER NOT NULL, 
	inbox_id INTEGER NOT NULL, 
	path BLOB NOT NULL, 
	CONSTRAINT pk_folder PRIMARY KEY (id), 
	CONSTRAINT uq_folder_inbox_id_path UNIQUE (inbox_id, path), 
	CONSTRAINT fk_folder_inbox_id FOREIGN KEY(inbox_id) REFERENCES inbox (id)
);
INSERT INTO "folder" VALUES(1,1,X'');
INSERT INTO "folder" VALUES(2,1,X'737562');
CREATE TABLE heartbeat (
	id INTEGER NOT NULL, 
	host TEXT NOT NULL, 
	pid INTEGER NOT NULL, 
	started_us BIGINT NOT NULL, 
	updated_us BIGINT NOT NULL, 
	stopped_us BIGINT, 
	snapshot TEXT NOT NULL, 
	CONSTRAINT pk_heartbeat PRIMARY KEY (id), 
	CONSTRAINT uq_heartbeat_host_pid_started_us UNIQUE (host, pid, started_us)
);
CREATE TABLE inbox (
	id INTEGER NOT NULL, 
	path BLOB NOT NULL, 
	CONSTRAINT pk_inbox PRIMARY KEY (id), 
	CONSTRAINT uq_inbox_path UNIQUE (path)
);
INSERT INTO "inbox" VALUES(1,X'2F696E626F78');
CREATE TABLE label (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	CONSTRAINT pk_label PRIMARY KEY (id), 
	CONSTRAINT uq_label_name UNIQUE (name)
);
INSERT INTO "label" VALUES(1,'tumour');
INSERT INTO "label" VALUES(2,'no_tumour');
CREATE TABLE model (
	id INTEGER NOT NULL, 
	weights_sha256 VARCHAR(64) NOT NULL, 
	name TEXT NOT NULL, 
	version TEXT NOT NULL, 
	engine TEXT NOT NULL, 
	precision TEXT NOT NULL, 
	device TEXT NOT NULL, 
	classes TEXT NOT NULL, 
	why TEXT NOT NULL, 
	first_used_us BIGINT NOT NULL, 
	positive TEXT, 
	threshold DOUBLE, 
	uncertain_low DOUBLE, 
	uncertain_high DOUBLE, 
	series_rule TEXT, 
	CONSTRAINT pk_model PRIMARY KEY (id), 
	CONSTRAINT uq_model_weights_sha256_engine_precision_device UNIQUE (weights_sha256, engine, precision, device)
);
INSERT INTO "model" VALUES(1,'abababababababababababababababababababababababababababababababab','brain-mri','1','openvino','bf16','cpu','["no_tumour", "tumour"]','',1790000000000000,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE pseudonym_key (
	id INTEGER NOT NULL, 
	secret BLOB NOT NULL, 
	CONSTRAINT pk_pseudonym_key PRIMARY KEY (id)
);
CREATE TABLE reason (
	id INTEGER NOT NULL, 
	text TEXT NOT NULL, 
	CONSTRAINT pk_reason PRIMARY KEY (id), 
	CONSTRAINT uq_reason_text UNIQUE (text)
);
INSERT INTO "reason" VALUES(1,'near the threshold');
INSERT INTO "reason" VALUES(2,'not an image');
INSERT INTO "reason" VALUES(3,'permission denied');
CREATE TABLE result (
	id INTEGER NOT NULL, 
	file_id INTEGER NOT NULL, 
	model_id INTEGER NOT NULL, 
	label_id INTEGER, 
	status SMALLINT NOT NULL, 
	confidence DOUBLE, 
	completed_us BIGINT NOT NULL, 
	duration_us INTEGER NOT NULL, 
	sha256 BLOB, 
	reason_id INTEGER, 
	slice_index INTEGER, 
	slice_count INTEGER, 
	tags TEXT, 
	score DOUBLE, 
	series_id BIGINT, 
	position DOUBLE, 
	votes BLOB, 
	CONSTRAINT pk_result PRIMARY KEY (id), 
	CONSTRAINT uq_result_file_id_model_id UNIQUE (file_id, model_id), 
	CONSTRAINT fk_result_file_id FOREIGN KEY(file_id) REFERENCES file (id), 
	CONSTRAINT fk_result_model_id FOREIGN KEY(model_id) REFERENCES model (id), 
	CONSTRAINT fk_result_label_id FOREIGN KEY(label_id) REFERENCES label (id), 
	CONSTRAINT fk_result_reason_id FOREIGN KEY(reason_id) REFERENCES reason (id)
);
INSERT INTO "result" VALUES(1,1,1,1,0,0.97,1790000000000000,1500,X'0101010101010101010101010101010101010101010101010101010101010101',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "result" VALUES(2,5,1,2,1,0.55,1790000000000000,1500,X'0202020202020202020202020202020202020202020202020202020202020202',1,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "result" VALUES(3,6,1,1,0,0.97,1790000000000000,1500,X'0303030303030303030303030303030303030303030303030303030303030303',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "result" VALUES(4,2,1,NULL,3,NULL,1790000000000000,0,NULL,2,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE review (
	id INTEGER NOT NULL, 
	request_id BLOB NOT NULL, 
	file_id INTEGER NOT NULL, 
	model_id INTEGER NOT NULL, 
	reviewer_id INTEGER NOT NULL, 
	answer SMALLINT NOT NULL, 
	label_id INTEGER, 
	shown_label_id INTEGER, 
	shown_status SMALLINT, 
	origin SMALLINT NOT NULL, 
	in_sample SMALLINT NOT NULL, 
	note TEXT, 
	at_us BIGINT NOT NULL, 
	withdrawn_us BIGINT, 
	CONSTRAINT pk_review PRIMARY KEY (id), 
	CONSTRAINT uq_review_request_id UNIQUE (request_id), 
	CONSTRAINT fk_review_file_id FOREIGN KEY(file_id) REFERENCES file (id), 
	CONSTRAINT fk_review_model_id FOREIGN KEY(model_id) REFERENCES model (id), 
	CONSTRAINT fk_review_reviewer_id FOREIGN KEY(reviewer_id) REFERENCES reviewer (id), 
	CONSTRAINT fk_review_label_id FOREIGN KEY(label_id) REFERENCES label (id), 
	CONSTRAINT fk_review_shown_label_id FOREIGN KEY(shown_label_id) REFERENCES label (id)
);
INSERT INTO "review" VALUES(1,X'01010101010101010101010101010101',1,1,1,2,NULL,1,0,4,0,NULL,1790000100000000,1790000100000000);
INSERT INTO "review" VALUES(2,X'02020202020202020202020202020202',1,1,1,1,1,1,0,4,0,NULL,1790000100000000,NULL);
INSERT INTO "review" VALUES(3,X'03030303030303030303030303030303',5,1,1,1,1,2,1,4,0,NULL,1790000100000000,NULL);
CREATE TABLE reviewer (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	CONSTRAINT pk_reviewer PRIMARY KEY (id), 
	CONSTRAINT uq_reviewer_name UNIQUE (name)
);
INSERT INTO "reviewer" VALUES(1,'ada');
CREATE TABLE series (
	id INTEGER NOT NULL, 
	inbox_id INTEGER NOT NULL, 
	series_key BLOB NOT NULL, 
	study_key BLOB, 
	patient_key BLOB, 
	origin SMALLINT NOT NULL, 
	name TEXT, 
	study_name TEXT, 
	patient_name TEXT, 
	CONSTRAINT pk_series PRIMARY KEY (id), 
	CONSTRAINT uq_series_inbox_id_series_key UNIQUE (inbox_id, series_key), 
	CONSTRAINT fk_series_inbox_id FOREIGN KEY(inbox_id) REFERENCES inbox (id)
);
CREATE TABLE series_verdict (
	series_id INTEGER NOT NULL, 
	model_id INTEGER NOT NULL, 
	status SMALLINT NOT NULL, 
	label_id INTEGER, 
	confidence DOUBLE, 
	score DOUBLE, 
	slices INTEGER NOT NULL, 
	rejected INTEGER NOT NULL, 
	files INTEGER NOT NULL, 
	votes BLOB NOT NULL, 
	loudest_file_id BIGINT, 
	loudest_score DOUBLE, 
	first_us BIGINT NOT NULL, 
	touched_us BIGINT NOT NULL, 
	CONSTRAINT pk_series_verdict PRIMARY KEY (series_id, model_id), 
	CONSTRAINT fk_series_verdict_series_id FOREIGN KEY(series_id) REFERENCES series (id), 
	CONSTRAINT fk_series_verdict_model_id FOREIGN KEY(model_id) REFERENCES model (id), 
	CONSTRAINT fk_series_verdict_label_id FOREIGN KEY(label_id) REFERENCES label (id)
)
 WITHOUT ROWID

;
CREATE TABLE tally (
	seconds INTEGER NOT NULL, 
	start_us BIGINT NOT NULL, 
	inbox_id BIGINT NOT NULL, 
	model_id BIGINT NOT NULL, 
	label_id BIGINT NOT NULL, 
	status SMALLINT NOT NULL, 
	count BIGINT NOT NULL, 
	CONSTRAINT pk_tally PRIMARY KEY (seconds, start_us, inbox_id, model_id, label_id, status)
)
 WITHOUT ROWID

;
INSERT INTO "tally" VALUES(60,1789999980000000,1,1,0,3,1);
INSERT INTO "tally" VALUES(60,1789999980000000,1,1,1,0,2);
INSERT INTO "tally" VALUES(60,1789999980000000,1,1,2,1,1);
INSERT INTO "tally" VALUES(86400,1789948800000000,1,1,0,3,1);
INSERT INTO "tally" VALUES(86400,1789948800000000,1,1,1,0,2);
INSERT INTO "tally" VALUES(86400,1789948800000000,1,1,2,1,1);
CREATE INDEX ix_series_patient_key ON series (patient_key) WHERE patient_key IS NOT NULL;
CREATE INDEX ix_series_study_key ON series (study_key) WHERE study_key IS NOT NULL;
CREATE INDEX ix_file_due ON file (coalesce(not_before_us, first_seen_us), attempts, first_seen_us) WHERE state = 0;
CREATE INDEX ix_file_quarantined ON file (state) WHERE state = 2;
CREATE UNIQUE INDEX uq_file_current_path ON file (folder_id, name) WHERE state != 3;
CREATE INDEX ix_file_move_due ON file (coalesce(move_not_before_us, 0)) WHERE move = 1;
CREATE INDEX ix_series_verdict_touched ON series_verdict (touched_us, status, label_id);
CREATE INDEX ix_result_uncertain ON result (file_id, model_id, score) WHERE status = 1;
CREATE INDEX ix_result_sha256_prefix ON result (substr(sha256, 1, 8)) WHERE sha256 IS NOT NULL;
CREATE INDEX ix_result_completed ON result (completed_us, status, label_id);
CREATE INDEX ix_result_series ON result (series_id, model_id, position) WHERE series_id IS NOT NULL;
CREATE INDEX ix_attempt_file_id ON attempt (file_id);
CREATE UNIQUE INDEX uq_review_standing ON review (file_id, reviewer_id) WHERE withdrawn_us IS NULL;
CREATE INDEX ix_review_order ON review (((file_id % 2147483647) * 1327217885) % 2147483647, in_sample, origin) WHERE withdrawn_us IS NULL;
CREATE INDEX ix_review_file_id ON review (file_id, withdrawn_us, answer, label_id, in_sample);
COMMIT;
