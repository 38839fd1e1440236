BEGIN TRANSACTION;
CREATE TABLE account (
	name TEXT NOT NULL, 
	password_hash TEXT NOT NULL, 
	authority TEXT NOT NULL, 
	tenant TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0004');
CREATE TABLE api_client (
	client_id TEXT NOT NULL, 
	secret_hash TEXT NOT NULL, 
	tenants TEXT NOT NULL, 
	role TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	PRIMARY KEY (client_id)
);
CREATE TABLE command (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	device_id BIGINT NOT NULL, 
	outgoing_ri TEXT NOT NULL, 
	outgoing_rn TEXT NOT NULL, 
	request_id TEXT NOT NULL, 
	method TEXT NOT NULL, 
	operation TEXT NOT NULL, 
	content TEXT NOT NULL, 
	content_info TEXT, 
	step TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	expires_ms BIGINT NOT NULL, 
	changed_ms BIGINT NOT NULL, 
	reason TEXT NOT NULL, 
	detail TEXT NOT NULL, priority BIGINT DEFAULT '0' NOT NULL, 
	FOREIGN KEY(device_id) REFERENCES device (id) ON DELETE CASCADE
);
INSERT INTO "command" VALUES(1,1,'6d73672d3100000000000000','msg-1','msg-1-0','read','{"op":"Read","path":"/3/0/0","accept":null}','"READ /3/0/0"',NULL,'succeeded',1760000000000,1760000060000,1760000000005,'','',0);
INSERT INTO "command" VALUES(2,1,'6d73672d3100000000000000','msg-1','msg-1-1','read','{"op":"Read","path":"/3/0/1","accept":null}','"READ /3/0/1"',NULL,'queued',1760000000000,1760000060000,1760000000000,'','',0);
CREATE TABLE credential (
	device_id INTEGER NOT NULL, 
	identity TEXT NOT NULL, 
	secret BLOB NOT NULL, 
	description TEXT NOT NULL, 
	envelope TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	modified_ms BIGINT NOT NULL, kind TEXT DEFAULT 'psk' NOT NULL, endpoint TEXT DEFAULT '' NOT NULL, bootstrap BLOB, key_id TEXT, 
	PRIMARY KEY (device_id), 
	FOREIGN KEY(device_id) REFERENCES device (id) ON DELETE CASCADE, 
	UNIQUE (identity)
);
INSERT INTO "credential" VALUES(1,'meter-1@psk',X'0299410D675B1088872B80AEAFD143ECD51315E06B70F5EC899A946418465A328D01C77F0B1D29FB6735193DF22E','cred','m2m:crds',1760000000000,1760000000000,'psk','',NULL,NULL);
INSERT INTO "credential" VALUES(3,'meter-2@psk',X'0299410D67A291361453B1B5DCD730BC91CB8496858A8CC1FBEC0AA80DF093866D21FD408D293C3361B66D98B1D2','cred','m2m:crds',1760000000000,1760000000000,'psk','',X'0299410D67E5AF9917DC707A5354D30F58809591C3D449F37C48177814330AF675B029425E4ACF2D63D378EFB2FA9E4CA9740EDD00663FD2D919927E9CF194F3F3BAAAE992045037544AA0FFA1822D3E4C65B89236F5A784FBF0796ECA0356A2AD33C18591468674186B4A3B07D57827CD6018DDC0AA47B3B7F4CCE9AFFD0FB3EFDB05E27C928DE1E6A664C1B6CDCB49472B6397B0C114EE12BE3AA00BDDCB15F71CB6EC4735753F10DB2FD11A40BEE2A143154C6F51BCA93587C14E004D9BCD094DBCD8B04E6786A3B62E2630614B8E8E06A9C342285AB54F36F6215B2CE14508AE8EDE15F68B07DA55324F755F66798412E846DC8F997CA5D14799141B1CC1C49A86AA2C3B0DB2C34CF88650F3BF6634C13BCCA8715B6B7601B60454E87F77860B83421F806082C457BB61E1E3',NULL);
CREATE TABLE credential_change (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	device_id BIGINT NOT NULL, 
	FOREIGN KEY(device_id) REFERENCES device (id) ON DELETE CASCADE, 
	UNIQUE (device_id)
);
INSERT INTO "credential_change" VALUES(1,1);
CREATE TABLE device (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	tenant_id BIGINT NOT NULL, 
	name TEXT NOT NULL, 
	node_id TEXT NOT NULL, 
	labels TEXT NOT NULL, 
	profile TEXT NOT NULL, 
	security TEXT NOT NULL, 
	device_info TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	modified_ms BIGINT NOT NULL, resource_key TEXT DEFAULT '' NOT NULL, gateway_id BIGINT DEFAULT '0' NOT NULL, gateway_prefix TEXT DEFAULT '' NOT NULL, 
	FOREIGN KEY(tenant_id) REFERENCES tenant (id), 
	UNIQUE (node_id), 
	UNIQUE (tenant_id, name)
);
INSERT INTO "device" VALUES(1,1,'meter-1','urn:imei:1234','["d2c-uplink-property_Room:1"]','SCS-LwM2M','psk','[]',1760000000000,1760000000000,'a05afa4ef2dd57a90dcee4',0,'');
INSERT INTO "device" VALUES(3,1,'meter-2','urn:imei:meter-2','[]','SCS-LwM2M','psk','[]',1760000000000,1760000000000,'13fcc6a73847c898e983b1',0,'');
CREATE TABLE device_alias (
	alias TEXT NOT NULL, 
	rank BIGINT NOT NULL, 
	device_id BIGINT NOT NULL, 
	PRIMARY KEY (alias, rank, device_id), 
	FOREIGN KEY(device_id) REFERENCES device (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "device_alias" VALUES('1234',4,1);
INSERT INTO "device_alias" VALUES('imei:1234',3,1);
INSERT INTO "device_alias" VALUES('meter-1',5,1);
INSERT INTO "device_alias" VALUES('urn:imei:1234',2,1);
INSERT INTO "device_alias" VALUES('imei:meter-2',3,3);
INSERT INTO "device_alias" VALUES('meter-2',4,3);
INSERT INTO "device_alias" VALUES('urn:imei:meter-2',2,3);
CREATE TABLE journal (
	first INTEGER NOT NULL, 
	last BIGINT NOT NULL, 
	time_ms BIGINT NOT NULL, 
	receipts BLOB NOT NULL, 
	entries BLOB NOT NULL, 
	PRIMARY KEY (first)
);
INSERT INTO "journal" VALUES(1,1,1760000000001,X'0100000000000000',X'919F0101CF00000199C82CC001C4080100000000000000CCC9A028C4213C2F312F303E2C3C2F332F303E2C3C2F333330332F303E3B7665723D22312E312290A46C6F6331AE75726E3A696D65693A6465762D31A0D93C65703D75726E3A696D65693A6465762D31266C776D326D3D312E31266C743D3330302066726F6D207564703A2F2F3139322E302E322E373A3536383300A0');
INSERT INTO "journal" VALUES(2,3,1760000000003,X'02000000000000000300000000000000',X'929F0501CF00000199C82CC002C4080200000000000000CCCCA12F6EC43A5B7B22626E223A222F333330332F302F222C226E223A2235373030222C2276223A32312E357D2C7B226E223A2235363031222C2276223A317D5D91A6526F6F6D3A31A0A0A0A000A09F0201CF00000199C82CC003C4080300000000000000CCCCA0FFC40090A46C6F6331A0A0A000A0');
INSERT INTO "journal" VALUES(4,4,1760000000006,X'0600000000000000',X'919F0501CF00000199C82CC006C4080600000000000000CCCCA12F6EC43A5B7B22626E223A222F333330332F302F222C226E223A2235373030222C2276223A32312E357D2C7B226E223A2235363031222C2276223A317D5D90A0A0A0A000A0');
CREATE TABLE message_container (
	device_id BIGINT NOT NULL, 
	container TEXT NOT NULL, 
	state_tag BIGINT NOT NULL, 
	modified_ms BIGINT NOT NULL, 
	PRIMARY KEY (device_id, container), 
	FOREIGN KEY(device_id) REFERENCES device (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "message_container" VALUES(1,'outgoing-msg',1,1760000000000);
INSERT INTO "message_container" VALUES(1,'sent-msg',1,1760000000004);
CREATE TABLE meta (
	name TEXT NOT NULL, 
	value BLOB NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "meta" VALUES('salt',X'475CD58BE62CF92D9700398D035CC294');
INSERT INTO "meta" VALUES('profiles_version','1');
CREATE TABLE object_list (
	profile_id TEXT NOT NULL, 
	body BLOB NOT NULL, 
	created_ms BIGINT NOT NULL, 
	PRIMARY KEY (profile_id)
);
CREATE TABLE object_model (
	tenant TEXT NOT NULL, 
	object_id BIGINT NOT NULL, 
	version TEXT NOT NULL, 
	name TEXT NOT NULL, 
	file_name TEXT NOT NULL, 
	source BLOB NOT NULL, 
	created_ms BIGINT NOT NULL, 
	modified_ms BIGINT NOT NULL, 
	PRIMARY KEY (tenant, object_id, version)
);
CREATE TABLE observation (
	device_id BIGINT NOT NULL, 
	path TEXT NOT NULL, 
	token BLOB NOT NULL, 
	accept BIGINT, 
	attributes TEXT NOT NULL, 
	labels TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	PRIMARY KEY (device_id, path), 
	FOREIGN KEY(device_id) REFERENCES device (id) ON DELETE CASCADE, 
	UNIQUE (token)
);
INSERT INTO "observation" VALUES(1,'/3303/0',X'746F6B656E2D3031',112,'[["pmin","5"],["gt",null]]','["outgoing_msgRN:m","requestId:r"]',1760000000000);
CREATE TABLE outgoing_message (
	device_id BIGINT NOT NULL, 
	state_tag BIGINT NOT NULL, 
	resource_id TEXT NOT NULL, 
	resource_name TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	content_size BIGINT NOT NULL, 
	content_info TEXT, 
	creator TEXT NOT NULL, 
	labels TEXT NOT NULL, 
	content TEXT NOT NULL, 
	PRIMARY KEY (device_id, state_tag), 
	FOREIGN KEY(device_id) REFERENCES device (id) ON DELETE CASCADE, 
	UNIQUE (device_id, resource_name)
)
 WITHOUT ROWID

;
INSERT INTO "outgoing_message" VALUES(1,1,'6d73672d3100000000000000','msg-1',1760000000000,11,NULL,'CApp','["a:b"]','"READ /3/0/0"');
CREATE TABLE profile (
	tenant_id BIGINT NOT NULL, 
	name TEXT NOT NULL, 
	settings TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	modified_ms BIGINT NOT NULL, 
	PRIMARY KEY (tenant_id, name), 
	FOREIGN KEY(tenant_id) REFERENCES tenant (id)
);
INSERT INTO "profile" VALUES(1,'meters','{"awake_s":10.0}',1760000000000,1760000000000);
CREATE TABLE registration (
	device_id INTEGER NOT NULL, 
	location TEXT NOT NULL, 
	endpoint_name TEXT NOT NULL, 
	peer TEXT NOT NULL, 
	version TEXT NOT NULL, 
	lifetime_s BIGINT NOT NULL, 
	binding TEXT NOT NULL, 
	queue_mode BIGINT NOT NULL, 
	body BLOB NOT NULL, 
	content_formats TEXT NOT NULL, 
	registered_ms BIGINT NOT NULL, 
	updated_ms BIGINT NOT NULL, 
	sms TEXT NOT NULL, 
	extra TEXT NOT NULL, 
	deadline_ms BIGINT NOT NULL, 
	PRIMARY KEY (device_id), 
	FOREIGN KEY(device_id) REFERENCES device (id) ON DELETE CASCADE, 
	UNIQUE (location)
);
INSERT INTO "registration" VALUES(1,'loc1','urn:imei:dev-1','udp 192.0.2.7 5683 192.0.2.1 5683','1.1',300,'U',0,X'3C2F312F303E2C3C2F332F303E2C3C2F333330332F303E3B7665723D22312E3122','null',1760000000000,1760000000000,'','[["x","1"]]',1760000300000);
CREATE TABLE removed_device (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	device_id BIGINT NOT NULL, 
	seq BIGINT NOT NULL
);
INSERT INTO "removed_device" VALUES(1,2,0);
CREATE TABLE secure_session (
	id INTEGER NOT NULL, 
	session_id BLOB NOT NULL, 
	device_id BIGINT NOT NULL, 
	address_key BIGINT, 
	address TEXT NOT NULL, 
	ceiling BIGINT NOT NULL, 
	read_mark BIGINT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	modified_ms BIGINT NOT NULL, 
	sealed BLOB NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(device_id) REFERENCES device (id) ON DELETE CASCADE, 
	UNIQUE (session_id)
);
INSERT INTO "secure_session" VALUES(1,X'0173657373696F6E',1,2310228162388075085,'udp 192.0.2.7 5683 192.0.2.1 5683',281474976710656,0,1760000000000,1795899936986,X'0299410D675921E9049E7A66C91DEFB5092CFBA4DA4929F09B125160A320BDFB4228454F47');
CREATE TABLE sent_message (
	device_id BIGINT NOT NULL, 
	state_tag BIGINT NOT NULL, 
	resource_id TEXT NOT NULL, 
	resource_name TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	content_size BIGINT NOT NULL, 
	content_info TEXT, 
	creator TEXT NOT NULL, 
	labels TEXT NOT NULL, 
	content TEXT NOT NULL, 
	command_id BIGINT NOT NULL, 
	PRIMARY KEY (device_id, state_tag), 
	FOREIGN KEY(device_id) REFERENCES device (id) ON DELETE CASCADE, 
	UNIQUE (command_id)
)
 WITHOUT ROWID

;
INSERT INTO "sent_message" VALUES(1,1,'fed5557eb2867b1d02b94a51','b513a4f3-440d-8ed2-aee1-bd81a0f622ef',1760000000004,11,NULL,'CNI-IPE','["outgoing_msgRN:msg-1","requestId:msg-1-0"]','"READ /3/0/0"',1);
CREATE TABLE session_mark (
	id INTEGER NOT NULL, 
	time_ms BIGINT NOT NULL, 
	packed BLOB NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "session_mark" VALUES(1,1795899936987,X'0173657373696F6E0001000000000000');
INSERT INTO "session_mark" VALUES(2,1795899936989,X'0173657373696F6E0001000000000000');
INSERT INTO "session_mark" VALUES(3,1795899936990,X'0173657373696F6E0001000000000000');
INSERT INTO "session_mark" VALUES(4,1795899936994,X'0173657373696F6E0001000000000000');
CREATE TABLE session_read (
	session_id BLOB NOT NULL, 
	read_mark BIGINT NOT NULL, 
	heard_ms BIGINT NOT NULL, 
	PRIMARY KEY (session_id), 
	FOREIGN KEY(session_id) REFERENCES secure_session (session_id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
ANALYZE "sqlite_master";
INSERT INTO "sqlite_stat1" VALUES('observation','sqlite_autoindex_observation_2','1 1');
INSERT INTO "sqlite_stat1" VALUES('observation','sqlite_autoindex_observation_1','1 1 1');
INSERT INTO "sqlite_stat1" VALUES('device_alias','device_alias_of_device','7 4');
INSERT INTO "sqlite_stat1" VALUES('device_alias','device_alias','7 1 1 1');
INSERT INTO "sqlite_stat1" VALUES('message_container','message_container','2 2 1');
INSERT INTO "sqlite_stat1" VALUES('command','command_due','1 1');
INSERT INTO "sqlite_stat1" VALUES('command','command_open_of_device','1 1 1');
INSERT INTO "sqlite_stat1" VALUES('command','command_open','1 1');
INSERT INTO "sqlite_stat1" VALUES('command','command_of_outgoing','2 2');
INSERT INTO "sqlite_stat1" VALUES('command','command_of_device','2 2');
INSERT INTO "sqlite_stat1" VALUES('secure_session','secure_session_by_address','1 1');
INSERT INTO "sqlite_stat1" VALUES('secure_session','secure_session_of_device','1 1');
INSERT INTO "sqlite_stat1" VALUES('secure_session','sqlite_autoindex_secure_session_1','1 1');
INSERT INTO "sqlite_stat1" VALUES('sent_message','sent_message_by_resource_id','1 1');
INSERT INTO "sqlite_stat1" VALUES('sent_message','sqlite_autoindex_sent_message_2','1 1');
INSERT INTO "sqlite_stat1" VALUES('sent_message','sent_message','1 1 1');
INSERT INTO "sqlite_stat1" VALUES('tenant','sqlite_autoindex_tenant_1','1 1');
INSERT INTO "sqlite_stat1" VALUES('outgoing_message','outgoing_message_by_resource_id','1 1');
INSERT INTO "sqlite_stat1" VALUES('outgoing_message','sqlite_autoindex_outgoing_message_2','1 1 1');
INSERT INTO "sqlite_stat1" VALUES('outgoing_message','outgoing_message','1 1 1');
INSERT INTO "sqlite_stat1" VALUES('device','device_by_resource_key','2 1');
INSERT INTO "sqlite_stat1" VALUES('device','sqlite_autoindex_device_2','2 2 1');
INSERT INTO "sqlite_stat1" VALUES('device','sqlite_autoindex_device_1','2 1');
INSERT INTO "sqlite_stat1" VALUES('tree_resource','tree_resource_by_id','1 1 1');
INSERT INTO "sqlite_stat1" VALUES('tree_resource','sqlite_autoindex_tree_resource_1','1 1 1 1');
CREATE TABLE tenant (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
INSERT INTO "tenant" VALUES(1,'default',1760000000000);
CREATE TABLE tree_resource (
	tenant_id BIGINT NOT NULL, 
	parent TEXT NOT NULL, 
	resource_name TEXT NOT NULL, 
	resource_id TEXT NOT NULL, 
	resource_type BIGINT NOT NULL, 
	envelope TEXT NOT NULL, 
	creator TEXT NOT NULL, 
	labels TEXT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	modified_ms BIGINT NOT NULL, 
	state_tag BIGINT NOT NULL, 
	attributes TEXT NOT NULL, 
	PRIMARY KEY (tenant_id, parent, resource_name), 
	FOREIGN KEY(tenant_id) REFERENCES tenant (id)
);
INSERT INTO "tree_resource" VALUES(1,'default','app-1','000000000000000000000000',2,'m2m:ae','CAdmin','["x","y:z"]',1760000000000,1760000000000,0,'{"api":"N1","poa":["http://x"],"rr":true}');
CREATE INDEX command_of_device ON command (device_id);
CREATE INDEX command_of_outgoing ON command (outgoing_ri);
CREATE INDEX command_open ON command (id) WHERE step IN ('queued','sent','delivered');
CREATE INDEX command_open_of_device ON command (device_id, id) WHERE step IN ('queued','sent','delivered');
CREATE INDEX device_alias_of_device ON device_alias (device_id);
CREATE INDEX outgoing_message_by_resource_id ON outgoing_message (resource_id);
CREATE INDEX registration_by_deadline ON registration (deadline_ms);
CREATE INDEX registration_of_peer ON registration (peer);
CREATE INDEX command_due ON command (expires_ms) WHERE step IN ('queued','sent','delivered');
CREATE INDEX sent_message_by_resource_id ON sent_message (resource_id);
CREATE INDEX tree_resource_by_id ON tree_resource (tenant_id, resource_id);
CREATE INDEX device_by_resource_key ON device (resource_key);
CREATE INDEX device_of_gateway ON device (gateway_id) WHERE gateway_id > 0;
CREATE INDEX secure_session_of_device ON secure_session (device_id);
CREATE INDEX secure_session_by_address ON secure_session (address_key) WHERE address_key IS NOT NULL;
CREATE UNIQUE INDEX credential_by_key ON credential (key_id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('device',3);
INSERT INTO "sqlite_sequence" VALUES('credential_change',1);
INSERT INTO "sqlite_sequence" VALUES('removed_device',1);
INSERT INTO "sqlite_sequence" VALUES('command',2);
COMMIT;
